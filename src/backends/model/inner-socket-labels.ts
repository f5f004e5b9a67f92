/** Labels of what is made through a Docker socket inside a container. */

/** Names the container, by its full ID, through whose socket something was made. */
export const creatorLabel = "sockerless.inner-socket";

/** Lets something stay when that container is removed. */
export const keepLabel = "sockerless.inner-socket.keep";

/** Labels of a container, network, volume or image. */
export type Labels = Readonly<Record<string, string>>;

/** The full ID of the container through whose socket something was made; undefined if it was made otherwise. */
export function creatorOf(labels: Labels): string | undefined {
  return Object.hasOwn(labels, creatorLabel) ? labels[creatorLabel] : undefined;
}

/** These labels of a container, for its volumes too: what it mounts goes or stays as it does. */
export function innerSocketLabels(labels: Labels): Record<string, string> {
  return Object.fromEntries(Object.entries(labels).filter(([name]) => isInnerSocketLabel(name)));
}

/** An image's labels for its containers, without these: an image cannot give its containers to another. */
export function withoutInnerSocketLabels(labels: Labels): Record<string, string> {
  return Object.fromEntries(Object.entries(labels).filter(([name]) => !isInnerSocketLabel(name)));
}

function isInnerSocketLabel(name: string): boolean {
  return name === creatorLabel || name === keepLabel;
}
