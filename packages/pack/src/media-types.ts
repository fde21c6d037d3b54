/**
 * What is what in the manifest. Names of the CNCF ModelPack specification where it has one; ours end in `.raw` as theirs
 * do, because ModelPack tools choose how to unpack a layer by that ending (modctl, pkg/codec) and give up on any other.
 * @see github.com/modelpack/model-spec, specs-go/v1/mediatype.go
 */
export const manifestType = 'application/vnd.oci.image.manifest.v1+json';
export const artifactType = 'application/vnd.cncf.model.manifest.v1+json';
export const modelConfigType = 'application/vnd.cncf.model.config.v1+json';
export const packConfigType = 'application/vnd.flotilla.pack.v1.raw';
export const signatureType = 'application/vnd.flotilla.signature.v1.raw';

/** Path annotation of ModelPack layers. */
export const filepathKey = 'org.cncf.model.filepath';

/** Paths of our own two layers, for tools that unpack every layer; no file of a pack may use them. */
export const packConfigPath = 'flotilla-pack.json';
export const signaturePath = 'flotilla-signature.json';

/** The media type of a file's layer. A role that this version does not know gets one of its own: kept, never run. */
export function layerType(role: string): string {
  switch (role) {
    case 'model':
    case 'model-data':
      return 'application/vnd.cncf.model.weight.v1.raw';
    case 'tokenizer':
    case 'keys':
    case 'config':
      return 'application/vnd.cncf.model.weight.config.v1.raw';
    case 'golden':
      return 'application/vnd.cncf.model.dataset.v1.raw';
    case 'report':
    case 'doc':
      return 'application/vnd.cncf.model.doc.v1.raw';
    default:
      return `application/vnd.flotilla.${role}.v1.raw`;
  }
}
