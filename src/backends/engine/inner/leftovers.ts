/**
 * Removes what was created through a container's Docker socket together with that container, unless it is labelled to
 * stay.
 */
import { isErrorKind, messageOf } from "../../../common/errors.ts";
import { creatorOf, keepLabel, type Labels } from "../../model/inner-socket-labels.ts";
import { configOf, isVisible } from "../../model/records.ts";
import { removeContainer } from "../containers/remove/remove-container.ts";
import type { EngineContext } from "../context.ts";
import { removeNetwork } from "../networks/network-lifecycle.ts";
import { isCreatedAt } from "../volumes/decisions/volumes.ts";
import { removeVolume } from "../volumes/volumes.ts";

type Goes = (labels: Labels) => boolean;

/** Removes what was created through the socket of a removed container. */
export function removeMadeThrough(context: EngineContext, creator: string): void {
  removeAll(context, (labels) => creatorOf(labels) === creator);
}

/**
 * Removes what was created through sockets of removed containers, if the backend ended before it could. A container
 * that is unknown for another reason may be found again.
 */
export function removeOrphans(context: EngineContext): void {
  const removed = new Set(
    context.state.events
      .past()
      .filter(({ type, action }) => type === "container" && action === "destroy")
      .map(({ actorId }) => actorId),
  );
  removeAll(context, (labels) => removed.has(creatorOf(labels) ?? ""));
}

function removeAll(context: EngineContext, isMade: Goes): void {
  const { driver, state, background } = context;
  if (driver.hostPaths.kind !== "ignored" || driver.hostPaths.dockerSocket === "off") {
    return;
  }
  const goes: Goes = (labels) => isMade(labels) && !Object.hasOwn(labels, keepLabel);
  const containers = [...state.containers.values()].filter(
    (record) => isVisible(record) && goes(configOf(record).labels),
  );
  const networks = [...state.networks.values()].flatMap(({ network }) =>
    network !== undefined && goes(network.labels) ? [network.id] : [],
  );
  const volumes = [...state.volumes.values()].filter(({ labels }) => goes(labels));
  if (containers.length + networks.length + volumes.length === 0) {
    return;
  }
  const force = { force: true, volumes: true, link: false };
  void background.run("remove what was made through a Docker socket", async () => {
    await all(context, containers, ({ id }) => removeContainer(context, id, force));
    await all(context, networks, (id) => removeNetwork(context, id));
    await all(context, volumes, ({ name, created }) =>
      removeVolume(context, name, false, (record) => isCreatedAt(record, created)),
    );
  });
}

/** Removes each; what cannot be removed stays until the backend's next start. */
async function all<T>(
  { logger }: EngineContext,
  things: readonly T[],
  remove: (thing: T) => Promise<void>,
): Promise<void> {
  const removals = things.map(async (thing) => {
    try {
      await remove(thing);
    } catch (error) {
      if (!isErrorKind(error, "not-found")) {
        logger.warn({ err: error }, `what was made through a Docker socket stays: ${messageOf(error)}`);
      }
    }
  });
  await Promise.all(removals);
}
