/** Names under which containers find each other. */

/** The longest name that can be asked for by DNS, in characters. */
const longestName = 253;

/** The names that a resolver can be asked for, each once. */
export function resolvableNames(names: readonly string[]): string[] {
  return [...new Set(names)].filter((name) => name !== "" && name.length <= longestName);
}
