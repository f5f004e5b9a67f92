import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";

import { systemClock } from "../../common/clock.ts";
import { conflict, messageOf, systemError } from "../../common/errors.ts";
import {
  type HelloResponse,
  type VolumeDriver as HostVolumeDriver,
  VolumeContent,
  VolumeSharing,
} from "../../gen/sockerless/host/v1/host_pb.ts";
import { Phase, VolumeRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { VolumeDriver, VolumeStore } from "../driver/volumes.ts";
import { partsReady } from "../driver/ready-made-roles.ts";
import { orHostError } from "./host-client.ts";
import type { HostProcess } from "./host-process.ts";
import { isAway } from "./repeated-calls.ts";

/** Delay before a watch that was cut is restarted. */
const watchRetryMs = 1_000;

/** Volumes of this machine: the host process implements the drivers and reports their rules. */
export function localVolumes(
  host: Pick<HostProcess, "client" | "logger">,
  hello: HelloResponse,
): VolumeStore {
  return {
    rules: { drivers: hello.volumeDrivers.map(rulesOf), usedBy: "any", forceOnUsed: "refuse" },
    parts: partsReady,
    async found() {
      const { volumes } = await orHostError(host.client.listVolumes({}));
      // Phase `creating`: the engine repeats the creation, which finds the volume and returns its details.
      return volumes.map(({ name, driver, options, created }) =>
        create(VolumeRecordSchema, {
          name,
          driver,
          options,
          phase: Phase.CREATING,
          ...(created === undefined ? {} : { created }),
        }),
      );
    },
    async create({ name, driver, options }) {
      const made = host.client.createVolume({ name, driver, options });
      const { path, mountpoint, status } = await orHostError(made.catch(toConflict));
      return { reference: path, mountpoint, status };
    },
    async remove(record) {
      await orHostError(host.client.removeVolume({ name: record.name }));
    },
    async watchRoom(report, signal) {
      let logged = "";
      for (;;) {
        try {
          for await (const shortage of host.client.watchVolumes({}, { signal })) {
            await report(shortage);
          }
        } catch (error) {
          // After the death of a host process, the next one is asked.
          if (!isAway(error) && messageOf(error) !== logged) {
            logged = messageOf(error);
            host.logger.error({ err: error }, "the room of volumes cannot be watched");
          }
        }
        await systemClock.sleep(watchRetryMs, signal);
      }
    },
  };
}

/** @throws conflict if the volume exists with other options; otherwise the error */
function toConflict(error: unknown): never {
  throw error instanceof ConnectError && error.code === Code.AlreadyExists
    ? conflict(error.rawMessage, error)
    : error;
}

const sharings: Readonly<Record<number, VolumeDriver["sharing"]>> = {
  [VolumeSharing.SHARED]: "shared",
  [VolumeSharing.EXCLUSIVE]: "exclusive",
};

const contents: Readonly<Record<number, VolumeDriver["content"]>> = {
  [VolumeContent.HERE]: "here",
  [VolumeContent.HERE_WITHOUT_OPTIONS]: "here-without-options",
};

/** @throws system: rules that are unknown here */
function rulesOf(told: HostVolumeDriver): VolumeDriver {
  const [sharing, content] = [sharings[told.sharing], contents[told.content]];
  if (sharing === undefined || content === undefined) {
    throw systemError(`the host process reports unknown rules of ${told.name} volumes`);
  }
  return { name: told.name, sharing, content };
}
