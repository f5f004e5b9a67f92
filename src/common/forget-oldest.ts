/** A bound on what is remembered: later entries take the place of the oldest. */

/** The parts of a map or set that {@link forgetOldest} needs; both iterate in order of insertion. */
interface Entries<Key> {
  readonly size: number;
  keys(): Iterable<Key>;
  delete(key: Key): boolean;
}

/** Sets an entry as the youngest, and removes the oldest one. @returns as {@link forgetOldest} */
export function remember<Key, Value>(
  map: Map<Key, Value>,
  key: Key,
  value: Value,
  most: number,
): Key | undefined {
  map.delete(key);
  map.set(key, value);
  return forgetOldest(map, most);
}

/**
 * Removes the oldest entry if there are more than `most`. Called after each addition.
 *
 * @returns the key of the removed entry; undefined: none was removed
 */
export function forgetOldest<Key>(entries: Entries<Key>, most: number): Key | undefined {
  if (entries.size <= most) {
    return undefined;
  }
  const [oldest] = entries.keys();
  if (oldest !== undefined) {
    entries.delete(oldest);
  }
  return oldest;
}
