/** Modes by which a container has a namespace of another one: `container:web`, of network, PID and IPC. Pure. */

const prefix = "container:";

/**
 * The container's name or ID after `container:`, as it was written; undefined: the mode names no container.
 */
export function containerOfMode(mode: string): string | undefined {
  return mode.startsWith(prefix) ? mode.slice(prefix.length) : undefined;
}

/** Whether a mode names another container. */
export function isContainerMode(mode: string): boolean {
  return mode.startsWith(prefix);
}

/** The mode that names a container. @param reference name or ID */
export function modeOfContainer(reference: string): string {
  return prefix + reference;
}
