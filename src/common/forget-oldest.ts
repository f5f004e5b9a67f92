/** A bound on what is remembered: later entries take the place of the oldest. */

/** The parts of a map or set that {@link forgetOldest} needs; both iterate in order of insertion. */
interface Entries<Key> {
  readonly size: number;
  keys(): Iterable<Key>;
  delete(key: Key): boolean;
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
