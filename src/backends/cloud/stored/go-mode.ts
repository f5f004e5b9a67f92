import type { IndexedFile } from "../../images/indexed-file.ts";

const kinds: Readonly<Record<IndexedFile["type"], number>> = {
  file: 0,
  directory: 2 ** 31,
  symlink: 2 ** 27,
  fifo: 2 ** 25,
  "character-device": 2 ** 26 + 2 ** 21,
  "block-device": 2 ** 26,
  other: 2 ** 19, // irregular
};

/** A file's type and permissions as bits of Go's `os.FileMode`. */
export function goMode({ type, mode }: Pick<IndexedFile, "type" | "mode">): number {
  const special = (bit: number, meaning: number): number => ((mode & bit) === 0 ? 0 : meaning);
  return (
    kinds[type] +
    (mode & 0o777) +
    special(0o4000, 2 ** 23) +
    special(0o2000, 2 ** 22) +
    special(0o1000, 2 ** 20)
  );
}
