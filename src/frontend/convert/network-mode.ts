/** Predicates of a `HostConfig.NetworkMode`. */

const builtIn: ReadonlySet<string> = new Set(["default", "bridge", "host", "none"]);

/** True if the mode names a user-defined network. */
export function isUserDefinedNetwork(mode: string): boolean {
  return !builtIn.has(mode) && !isContainerNetwork(mode);
}

/** True if the mode shares another container's network: `container:ID`. */
export function isContainerNetwork(mode: string): boolean {
  return mode.startsWith("container:");
}

/** True if endpoint settings apply in this mode: the default bridge and user-defined networks. */
export function hasEndpointSettings(mode: string): boolean {
  return mode === "bridge" || isUserDefinedNetwork(mode);
}
