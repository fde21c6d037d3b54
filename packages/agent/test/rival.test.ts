import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Rivalry } from '../src/link/rival.ts';

const presence = (instance: number, session: number, online: boolean) => ({
  protocol: 1,
  session,
  online,
  instance,
  birth: undefined,
});

test('an agent alone never yields: not to itself, not to what the broker remembers of the one before', () => {
  const me = new Rivalry(200);
  expect(me.mustYield(presence(200, 5, true), true)).toBe(false);
  expect(me.mustYield(presence(100, 3, true), true)).toBe(false); // killed; its birth is still retained
  expect(me.mustYield(presence(100, 3, false), false)).toBe(false); // and now its will
});

test('the younger one yields as soon as the older one is seen alive', () => {
  expect(new Rivalry(200).mustYield(presence(100, 3, true), false)).toBe(true);
  const me = new Rivalry(200);
  expect(me.mustYield(presence(100, 3, false), true)).toBe(false);
  expect(me.mustYield(presence(100, 7, false), true)).toBe(true); // it has connected since
});

test('of two agents that see any of each other exactly the older one goes on', () => {
  fc.assert(
    fc.property(fc.array(fc.record({ retained: fc.boolean(), online: fc.boolean() }), { minLength: 2 }), (seen) => {
      const older = new Rivalry(100);
      const younger = new Rivalry(200);
      let session = 0;
      const yields = seen.map(({ retained, online }) => {
        session++;
        return [
          older.mustYield(presence(200, session, online), retained),
          younger.mustYield(presence(100, session, online), retained),
        ] as const;
      });
      expect(yields.some(([one]) => one)).toBe(false);
      expect(yields.some(([, other]) => other)).toBe(true);
    }),
  );
});
