/** Lists of processors and memory nodes: `0-2,4`. Pure. */

/** The largest number in a list, as in Docker. */
const largest = 8192;

/** Characters of the longest list: each range is compared with the machine's. */
export const mostCharacters = 4_096;

/**
 * Whether a machine has all processors or nodes of a list.
 *
 * @param list a valid list
 * @param available the machine's list
 */
export function isAvailable(list: string, available: string): boolean {
  const has = rangesOf(available);
  return rangesOf(list).every(([first, last]) => {
    for (let number = first; number <= last; number++) {
      if (!has.some(([from, to]) => from <= number && number <= to)) {
        return false;
      }
    }
    return true;
  });
}

function rangesOf(list: string): (readonly [first: number, last: number])[] {
  return (list === "" ? [] : list.split(",")).map((range) => {
    const [first = "", last = first] = range.split("-");
    return [Number(first), Number(last)] as const;
  });
}

/** @returns the error in a list, in Docker's words; undefined if it is valid. */
export function cpusetFault(list: string): string | undefined {
  if (list.length > mostCharacters) {
    return `more than ${mostCharacters} characters`;
  }
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
