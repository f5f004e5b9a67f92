/** The claim of a named volume, as it is made and read. Pure. */
import { create } from "@bufbuild/protobuf";
import type { V1PersistentVolumeClaim } from "@kubernetes/client-node";
import * as v from "valibot";

import type { KubernetesSection } from "../../../common/config/load.ts";
import { parseSize } from "../../../common/config/units.ts";
import { moment, object, openMap, read } from "../../../common/documents.ts";
import { invalid } from "../../../common/errors.ts";
import { type VolumeRecord, VolumeRecordSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { volumeResourceName } from "../../cloud/ready-made/volume-resources.ts";
import { instanceLabel, instanceValue } from "../names.ts";

/** The driver of volumes that containers share. */
export const sharedDriver = "local";
/** The driver of volumes that belong to one container. */
export const blockDriver = "block";

/** Settings of claims. */
export interface ClaimSettings
  extends Pick<
    KubernetesSection,
    "sharedStorageClass" | "sharedAccessMode" | "blockStorageClass" | "volumeSize"
  > {
  readonly namespace: string;
  /** Name of this instance: `sockerless/<hex>`. */
  readonly instance: string;
}

/** The annotation with the name of the volume. */
const volumeAnnotation = "sockerless/volume";
/** The annotation with the rest of the volume's record, as {@link detailsSchema} has it. */
const detailsAnnotation = "sockerless/volume-details";

const detailsSchema = object({
  created: moment,
  driver: v.string(),
  labels: openMap(v.string()),
  options: openMap(v.string()),
  anonymous: v.boolean(),
});

const known = ["access_mode", "size", "storage_class"];
const accessModes = ["ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod"];
const longestKept = 24;

/**
 * The claim of a volume: always the same for the same volume. Its name tells it from those of other instances, and from
 * those that had the volume's name before, which Kubernetes keeps while a pod uses them.
 *
 * @throws invalid: an option, by name
 */
export function claimOf(record: VolumeRecord, settings: ClaimSettings): V1PersistentVolumeClaim {
  const { driver, options } = record;
  const unknown = Object.keys(options).filter((name) => !known.includes(name));
  if (unknown.length > 0) {
    throw invalid(`invalid option: ${unknown.map((name) => JSON.stringify(name)).join(", ")}`);
  }
  const isBlock = driver === blockDriver;
  const accessMode = options["access_mode"] ?? (isBlock ? "ReadWriteOnce" : settings.sharedAccessMode);
  if (!accessModes.includes(accessMode)) {
    throw invalid(
      `volume option access_mode must be one of ${accessModes.join(", ")}, not ${JSON.stringify(accessMode)}`,
    );
  }
  const size = options["size"] === undefined ? settings.volumeSize : parseSize(options["size"]);
  if (size === undefined || size === 0) {
    throw invalid(`volume option size must be a size such as 10g, not ${JSON.stringify(options["size"])}`);
  }
  const configured = isBlock ? settings.blockStorageClass : settings.sharedStorageClass;
  const storageClass = options["storage_class"] ?? configured;
  return {
    apiVersion: "v1",
    kind: "PersistentVolumeClaim",
    metadata: {
      name: claimName(record, settings.instance),
      namespace: settings.namespace,
      labels: { [instanceLabel]: instanceValue(settings.instance) },
      annotations: {
        [volumeAnnotation]: record.name,
        [detailsAnnotation]: JSON.stringify({
          created: [Number(record.created?.seconds ?? 0n), record.created?.nanos ?? 0],
          driver,
          labels: record.labels,
          options,
          anonymous: record.anonymous,
        } satisfies v.InferOutput<typeof detailsSchema>),
      },
    },
    spec: {
      accessModes: [accessMode],
      resources: { requests: { storage: String(size) } },
      ...(storageClass === undefined ? {} : { storageClassName: storageClass }),
    },
  };
}

/** The name of a volume's claim. */
export function claimName(volume: VolumeRecord, instance: string): string {
  return volumeResourceName("sockerless", volume, instance, longestKept);
}

/** The volume of a claim; undefined: the claim is none of this instance's. */
export function volumeOf(
  { metadata }: V1PersistentVolumeClaim,
  { namespace, instance }: Pick<ClaimSettings, "namespace" | "instance">,
): VolumeRecord | undefined {
  const { name: claim = "", labels = {}, annotations = {} } = metadata ?? {};
  const name = annotations[volumeAnnotation];
  if (name === undefined || labels[instanceLabel] !== instanceValue(instance)) {
    return undefined;
  }
  const details = detailsIn(annotations[detailsAnnotation]);
  const [seconds, nanos] = details.created ?? [0, 0];
  return create(VolumeRecordSchema, {
    name,
    driver: details.driver ?? sharedDriver,
    created: { seconds: BigInt(seconds), nanos },
    labels: details.labels ?? {},
    options: details.options ?? {},
    anonymous: details.anonymous ?? false,
    mountpoint: mountpointOf(name),
    driverReference: formatClaim({ namespace, claim }),
  });
}

function detailsIn(text: string | undefined): Partial<v.InferOutput<typeof detailsSchema>> {
  try {
    return read(detailsSchema, JSON.parse(text ?? "")).value ?? {};
  } catch {
    return {}; // Somebody has changed it: without its time of creation the claim is not found as the volume's.
  }
}

/** The directory that Docker's clients are shown for a volume. There is none on this machine. */
export function mountpointOf(name: string): string {
  return `/var/lib/docker/volumes/${name}/_data`;
}

/** The claim in a volume's record. */
export interface ClaimReference {
  readonly namespace: string;
  readonly claim: string;
}

/** Writes the `driver_reference` of a volume's record. */
export function formatClaim({ namespace, claim }: ClaimReference): string {
  return `${namespace}/${claim}`;
}

/**
 * The name of a volume's claim in the configured namespace.
 *
 * @returns undefined: the volume is a directory of each container's own
 * @throws invalid: the claim is in another namespace than the configured one
 */
export function claimIn(
  namespace: string,
  { name, driverReference }: Pick<VolumeRecord, "name" | "driverReference">,
): string | undefined {
  if (driverReference === "") {
    return undefined;
  }
  const [place = "", claim = ""] = driverReference.split("/");
  if (place !== namespace) {
    throw invalid(
      `volume ${name} is a claim of the namespace ${place}, and containers run in ${namespace}: pods mount claims of their own namespace alone`,
    );
  }
  return claim;
}
