/** Codes travel in reports and `--json`: never renamed. */
export type OnnxErrorCode = 'onnx/not-a-model';
/** A model that cannot be read, edited or written as asked. */
export declare class OnnxError extends Error {
    readonly name = "OnnxError";
    readonly code: OnnxErrorCode;
    /** File, node or offset. */
    readonly where: string | undefined;
    /** How to mend it. */
    readonly hint: string | undefined;
    constructor(code: OnnxErrorCode, message: string, options?: ErrorOptions & {
        where?: string | undefined;
        hint?: string | undefined;
    });
}
