/** Volumes of a container in creation. */
import type { MountPoint } from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import type { ContainerRecord, VolumeRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { EngineContext } from "../../context.ts";
import type { PlannedMount } from "../decisions/mounts/plan-mounts.ts";
import { innerSocketLabels } from "../../../model/inner-socket-labels.ts";
import { configOf, withFields } from "../../../model/records.ts";
import { admissionTo } from "../../volumes/decisions/exclusive-volumes.ts";
import { ensureVolume } from "../../volumes/volumes.ts";

/**
 * Creates or finds the volumes that a new container mounts, and claims them. @returns its record, which is committed
 * with each volume
 */
export async function claimVolumes(
  context: EngineContext,
  record: ContainerRecord,
  mounts: readonly PlannedMount[],
): Promise<ContainerRecord> {
  if (mounts.length === 0) {
    return record; // Already recorded in this form.
  }
  const madeThrough = innerSocketLabels(configOf(record).labels);
  let next = record;
  const addMount = (mounted: MountPoint): void => {
    next = withFields(next, { mounts: [...next.mounts, mounted] });
  };
  /** The container's volumes so far, by how they are asked for. */
  const claimed = new Map<string, VolumeRecord>();
  for (const { point, volume, taken } of mounts) {
    if (volume === undefined) {
      addMount(point);
      continue;
    }
    const key = JSON.stringify([volume.name, volume.driver, volume.options]);
    const known = volume.name === "" ? undefined : claimed.get(key);
    if (known !== undefined) {
      addMount(mountOf(point, known));
      continue;
    }
    const wanted = { ...volume, labels: { ...volume.labels, ...madeThrough } };
    const ensured = await ensureVolume(context, wanted, {
      mustExist: taken !== undefined,
      admit: (known) => {
        const { rules } = context.driver.volumes;
        const admission = admissionTo(context.state, rules, known, next, taken !== undefined);
        if (admission.kind === "refused") {
          throw admission.error;
        }
        if (admission.kind === "after") {
          next = withFields(next, { replaces: admission.ownerId });
        }
      },
      claim: (change, name) => {
        if (volume.name === "") {
          next = withFields(next, { anonymousVolumes: [...next.anonymousVolumes, name] });
          change.containers.put(next);
        }
      },
      use: (change, used) => {
        addMount(mountOf(point, used));
        if (taken?.isAnonymous === true) {
          // Removed with its last user.
          next = withFields(next, { anonymousVolumes: [...next.anonymousVolumes, used.name] });
        }
        change.containers.put(next);
      },
    });
    claimed.set(key, ensured);
  }
  const whole = next;
  await context.state.commit((change) => change.containers.put(whole));
  return whole;
}

function mountOf(point: MountPoint, { name, driver, mountpoint }: VolumeRecord): MountPoint {
  return { ...point, name, driver, source: mountpoint };
}
