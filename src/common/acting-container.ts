/**
 * Metadata of a call to the backend that a frontend makes for a client at a container's Docker socket: the container's full
 * ID. Such a call sees and changes only what the container may (`backends/engine/inner/rules.ts`).
 */
export const actingContainerHeader = "sockerless-acting-container";
