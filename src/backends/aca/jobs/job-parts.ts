/** Parts of a job that other folders know how to make: its images, its volumes. */
import type { Volume, VolumeMount } from "@azure/arm-appcontainers";

import type { ContainerRecord, ImageRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { StartStep } from "../../cloud/contract/cloud-tasks.ts";
import type { CopyMount, ImageCopy } from "../../cloud/ready-made/copied-images.ts";
import type { LaunchProgress } from "../../driver/launches.ts";
import type { ResolvedMount, WorkloadSpec } from "../../driver/workload-spec.ts";

/** An image as a job names it. */
export interface JobImage {
  /** Name with digest, by which Azure pulls it. */
  readonly reference: string;
  /** Path of the agent in it, which runs as root there; undefined: an init container brings the agent. */
  readonly agent: string | undefined;
}

/** Images that a job's container mounts: init containers copy their files. */
export interface JobImageMounts {
  readonly copies: readonly JobImageCopy[];
  readonly mounts: readonly CopyMount[];
}

/** A copy of an image's files, by the image as the job names it. */
export interface JobImageCopy extends Pick<ImageCopy, "name" | "args"> {
  readonly image: JobImage;
}

/** Makes ready an image for a job. */
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

/** Volumes as jobs mount them. */
export interface JobVolumes {
  /** Makes ready what a job mounts: environment storages for reading alone are made at their first use. */
  partsOf(spec: WorkloadSpec, step: StartStep): Promise<JobVolumeParts>;
  /** Paths of volumes that need no mount: the agent makes their directories. */
  unmounted(spec: WorkloadSpec): readonly string[];
  /** @throws invalid: a mount that no job can have */
  refuseUnfit(mounts: readonly ResolvedMount[]): void;
}
