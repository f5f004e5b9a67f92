/** RPC implementation of VolumeService. */
import type { ServiceImpl } from "@connectrpc/connect";

import type { VolumeService } from "../../../gen/sockerless/backend/v1/volume_pb.ts";
import type { VolumeRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { OneAtATime } from "../../concurrency/one-at-a-time.ts";
import type { EngineContext } from "../context.ts";
import { inspectedVolume } from "../volumes/decisions/exclusive-volumes.ts";
import { findVolume, isCreatedAt, listVolumes, volumeOf } from "../volumes/decisions/volumes.ts";
import { pruneVolumes } from "../volumes/prune-volumes.ts";
import { ensureVolume, removeVolume } from "../volumes/volumes.ts";

/** Implements the service for an engine. */
export function volumeService(context: EngineContext): ServiceImpl<typeof VolumeService> {
  const { state } = context;
  const prunes = new OneAtATime();
  return {
    createVolume: async ({ name, driver, driverOpts, labels }, call) => {
      const wanted = { name, driver, options: driverOpts, labels };
      return { volume: volumeOf(await ensureVolume(context, wanted, {}, call.signal)) };
    },
    listVolumes: ({ filters }) => ({ volumes: listVolumes(state, filters).map(volumeOf) }),
    inspectVolume: ({ name }) => ({
      volume: inspectedVolume(state, context.driver.volumes.rules, findVolume(state, name)),
    }),
    removeVolume: async ({ name, force, created }, call) => {
      const isMeant = (record: VolumeRecord): boolean =>
        created === undefined || isCreatedAt(record, created);
      await removeVolume(context, name, force, isMeant, call.signal);
      return {};
    },
    pruneVolumes: async ({ filters }, call) => {
      const { removed, spaceReclaimed } = await prunes.run(() => pruneVolumes(context, filters, call.signal));
      return { removed: [...removed], spaceReclaimed };
    },
  };
}
