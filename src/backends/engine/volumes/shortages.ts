/** Warns before the disk below volumes is full. */
import type { VolumeShortage } from "../../driver/volumes.ts";
import type { EngineContext } from "../context.ts";
import { isMade } from "./decisions/volumes.ts";

/** Reports low disk space by an event and in the log, until the engine ends. */
export function reportShortages(context: EngineContext): void {
  const tell = (shortage: VolumeShortage): Promise<void> => reportShortage(context, shortage);
  void context.background.run("watch the room of volumes", () =>
    context.driver.volumes.watchRoom(tell, context.shutdown),
  );
}

/** Logged even if the event cannot be recorded. */
async function reportShortage(context: EngineContext, { name, free, growth }: VolumeShortage): Promise<void> {
  const volume = context.state.volumes.get(name);
  if (volume === undefined || !isMade(volume)) {
    return; // It has gone meanwhile.
  }
  const { driver } = volume;
  const attributes = { driver, free: String(free), growth: String(growth) };
  context.logger.warn(
    { volume: name, ...attributes },
    "the disk has less room than volumes on it may yet take: what is written to them will fail once it is full; make room",
  );
  try {
    await context.state.commit((change) =>
      change.event({ type: "volume", action: "low_space", actorId: name, attributes }),
    );
  } catch (error) {
    context.logger.warn({ err: error, volume: name }, "the event of a shortage of room is not recorded");
  }
}
