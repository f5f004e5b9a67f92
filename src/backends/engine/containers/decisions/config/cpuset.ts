/** Lists of processors and memory nodes: `0-2,4`. Pure. */

/** The largest number that a list may name, as in Docker: a range beyond it is no machine's. */
const largest = 8192;

/**
 * Whether a machine has all that a list names.
 *
 * @param list without a fault
 * @param available what the machine has, as a list, too
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
