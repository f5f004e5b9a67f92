/** Lists of processors and memory nodes: `0-2,4`. Pure. */

/** The largest number that a list may name, as in Docker: a range beyond it is no machine's. */
const largest = 8192;

/**
 * Whether a machine has all processors of a list.
 *
 * @param list without a fault
 * @param count of processors, numbered from 0
 */
export function isAvailable(list: string, count: number): boolean {
  return (
    list === "" ||
    list
      .split(",")
      .flatMap((range) => range.split("-"))
      .every((number) => Number(number) < count)
  );
}

/** @returns what is wrong with a list, in Docker's words; undefined where nothing is. */
export function cpusetFault(list: string): string | undefined {
  for (const range of list === "" ? [] : list.split(",")) {
    const [, first, last = first] = /^(\d{1,9})(?:-(\d{1,9}))?$/.exec(range) ?? [];
    if (first === undefined || Number(last) < Number(first)) {
      return `invalid format: ${list}`;
    }
    if (Number(last) > largest) {
      return `value of out range, maximum is ${largest}`;
    }
  }
  return undefined;
}
