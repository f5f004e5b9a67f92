/** Modes that share another container's network, PID or IPC namespace: `container:web`. Pure. */

const prefix = "container:";

/** The name or ID after `container:`, as written; undefined if the mode names no container. */
export function containerOfMode(mode: string): string | undefined {
  return mode.startsWith(prefix) ? mode.slice(prefix.length) : undefined;
}

/** Whether a mode names another container. */
export function isContainerMode(mode: string): boolean {
  return mode.startsWith(prefix);
}

/** The mode for sharing a container's namespace. @param reference name or ID */
export function modeOfContainer(reference: string): string {
  return prefix + reference;
}
