/**
 * The name that was probably meant, or undefined if none is close: at most a third of its letters (but at least one)
 * may differ. Case, dashes and underscores do not count.
 */
export function nearestName(written: string, names: Iterable<string>): string | undefined {
  const letters = lettersOf(written);
  let nearest: string | undefined;
  let least = Number.POSITIVE_INFINITY;
  for (const name of names) {
    const candidate = lettersOf(name);
    const distance = editDistance(letters, candidate);
    const allowed = Math.max(1, Math.floor(Math.max(letters.length, candidate.length) / 3));
    if (distance <= allowed && distance < least) {
      nearest = name;
      least = distance;
    }
  }
  return nearest;
}

function lettersOf(name: string): string {
  return name.toLowerCase().replaceAll(/[-_]/g, "");
}

/** Number of insertions, deletions, substitutions and swaps of neighbours between two strings. */
function editDistance(from: string, to: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: to.length + 1 }, (_, column) => column);
  for (let row = 1; row <= from.length; row++) {
    const current = [row];
    for (let column = 1; column <= to.length; column++) {
      const substitution = from[row - 1] === to[column - 1] ? 0 : 1;
      let cost = Math.min(
        (last[column] ?? 0) + 1,
        (current[column - 1] ?? 0) + 1,
        (last[column - 1] ?? 0) + substitution,
      );
      if (row > 1 && column > 1 && from[row - 1] === to[column - 2] && from[row - 2] === to[column - 1]) {
        cost = Math.min(cost, (beforeLast[column - 2] ?? 0) + 1);
      }
      current.push(cost);
    }
    beforeLast = last;
    last = current;
  }
  return last[to.length] ?? 0;
}
