/** Maps whose keys others choose, kept in objects: what every object inherits (`constructor`, `__proto__`) is no entry. */

/** The entry of a key; undefined: there is none. */
export function ownValue<Value>(map: Readonly<Record<string, Value>>, key: string): Value | undefined {
  return Object.hasOwn(map, key) ? map[key] : undefined;
}

/** Sets an entry, as an assignment does with any key but `__proto__`. */
export function setOwnValue<Value>(map: Record<string, Value>, key: string, value: Value): void {
  Object.defineProperty(map, key, { value, configurable: true, enumerable: true, writable: true });
}
