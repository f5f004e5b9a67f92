/** JSON with something strange at one of its places, for properties of what reads it. */
import fc from "fast-check";

/** Values that are wrong nearly everywhere. */
export const strangeValue: fc.Arbitrary<unknown> = fc.oneof(
  fc.jsonValue(),
  fc.constantFrom<unknown>(null, "", -1, 2 ** 53, 1e300, 0.5, [], {}, [null], [[]], "\ud800", { a: null }),
  fc.bigInt({ min: -(2n ** 70n), max: 2n ** 70n }),
);

/** The document with another value at one of its places, counted in the order in which they are met. */
export function replacedAt(document: unknown, place: number, value: unknown): unknown {
  let left = place % countPlaces(document);
  const replace = (node: unknown): unknown => {
    left -= 1;
    if (left < 0) {
      left = Number.POSITIVE_INFINITY;
      return value;
    }
    if (Array.isArray(node)) {
      return node.map(replace);
    }
    if (typeof node === "object" && node !== null) {
      return Object.fromEntries(Object.entries(node).map(([key, each]) => [key, replace(each)]));
    }
    return node;
  };
  return replace(document);
}

function countPlaces(node: unknown): number {
  const children = typeof node === "object" && node !== null ? Object.values(node) : [];
  return 1 + children.reduce<number>((sum, child) => sum + countPlaces(child), 0);
}
