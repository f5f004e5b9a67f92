/** Maps in plain objects with keys from outside: inherited properties (`constructor`, `__proto__`) are not entries. */

/** The entry of a key; undefined if there is none. */
export function ownValue<Value>(map: Readonly<Record<string, Value>>, key: string): Value | undefined {
  return Object.hasOwn(map, key) ? map[key] : undefined;
}

/** Sets an entry; unlike an assignment, also for `__proto__`. */
export function setOwnValue<Value>(map: Record<string, Value>, key: string, value: Value): void {
  Object.defineProperty(map, key, { value, configurable: true, enumerable: true, writable: true });
}
