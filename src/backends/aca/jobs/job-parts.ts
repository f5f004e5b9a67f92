/** Parts of a job that other folders provide: images and volumes. */
import type { Volume, VolumeMount } from "@azure/arm-appcontainers";

import type { ContainerRecord, ImageRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { StartStep } from "../../cloud/contract/cloud-tasks.ts";
import type { CopyMount, ImageCopy } from "../../cloud/ready-made/copied-images.ts";
import type { LaunchProgress } from "../../driver/launches.ts";
import type { ResolvedMount, WorkloadSpec } from "../../driver/workload-spec.ts";

/** An image in a job. */
export interface JobImage {
  /** Reference by digest, for Azure to pull it. */
  readonly reference: string;
  /** Path of the agent in a derived image; undefined if an init container brings the agent. */
  readonly agent: string | undefined;
}

/** Images that a job's container mounts: init containers copy their files. */
export interface JobImageMounts {
  readonly copies: readonly JobImageCopy[];
  readonly mounts: readonly CopyMount[];
}

/** A copy of an image's files, with the image in the form for a job. */
export interface JobImageCopy extends Pick<ImageCopy, "name" | "args"> {
  readonly image: JobImage;
}

/** Prepares an image for a job. */
export type JobImages = (
  image: ImageRecord,
  record: ContainerRecord,
  step: StartStep,
  phase: LaunchProgress["phase"],
) => Promise<JobImage>;

/** A job's volumes and its main container's mounts of them. */
export interface JobVolumeParts {
  readonly volumes: readonly Volume[];
  readonly mounts: readonly VolumeMount[];
}

/** Volumes for jobs. */
export interface JobVolumes {
  /** Prepares a job's mounts: read-only environment storages are created at their first use. */
  partsOf(spec: WorkloadSpec, step: StartStep): Promise<JobVolumeParts>;
  /** Paths of volumes that need no mount: the agent creates their directories. */
  unmounted(spec: WorkloadSpec): readonly string[];
  /** @throws invalid: a mount that no job can have */
  refuseUnfit(mounts: readonly ResolvedMount[]): void;
}
