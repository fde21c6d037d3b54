import { literal, minBytes, oneOf, Rule, type Sequence } from './byte-grammar.ts';
import { space } from './json-terms.ts';

interface Member {
  readonly sequence: Sequence;
  readonly required: boolean;
}

/**
 * An object with these members, in any order, each at most once. One rule per set of members that are still to come:
 * only those that a text leads to are ever made.
 */
export function jsonObject(properties: ReadonlyMap<string, Rule>, required: ReadonlySet<string>): Rule {
  const members = [...properties].map(
    ([name, value]): Member => ({
      sequence: [...literal(JSON.stringify(name)), space, oneOf(':'), space, value, space],
      required: required.has(name),
    }),
  );
  const rules = new Map<string, Rule>();
  const rest = (open: readonly Member[], comma: boolean): Rule => {
    const key = `${comma}${open.map((member) => members.indexOf(member)).join()}`;
    const known = rules.get(key);
    if (known) return known;
    const made = new Rule(
      () => [
        ...(open.some((member) => member.required) ? [] : [[oneOf('}')]]),
        ...open.map((member): Sequence => {
          const others = rest(
            open.filter((other) => other !== member),
            true,
          );
          return [...(comma ? [oneOf(','), space] : []), ...member.sequence, others];
        }),
      ],
      () => {
        const due = open.filter((member) => member.required);
        const commas = due.length - Number(!comma && due.length > 0);
        return due.reduce((sum, member) => sum + minBytes(member.sequence), 1 + commas);
      },
    );
    rules.set(key, made);
    return made;
  };
  return new Rule(
    () => [[oneOf('{'), space, rest(members, false)]],
    () => 1 + rest(members, false).minBytes,
  );
}
