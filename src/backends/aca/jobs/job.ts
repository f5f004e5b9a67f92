/** The job of one start of a container. Pure: secrets are added when the job is created. */
import type {
  EnvironmentVar,
  InitContainer,
  Job,
  RegistryCredentials,
  Volume,
  VolumeMount,
} from "@azure/arm-appcontainers";

import type { ContainerRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { type AgentSettings, agentEnvironment } from "../../cloud/agents/agent-environment.ts";
import { copiedTo } from "../../cloud/ready-made/copied-images.ts";
import { agentInImage } from "../../cloud/images/agent-image.ts";
import type { ResolvedMount } from "../../driver/workload-spec.ts";
import { parseNamed } from "../../images/reference.ts";
import { containerTag, generationTag, instanceTag } from "../tags.ts";
import type { JobImage, JobImageCopy, JobImageMounts, JobVolumeParts } from "./job-parts.ts";
import type { JobSize } from "./sizes.ts";

/** Settings shared by all jobs of this backend. */
export interface JobSettings extends AgentSettings {
  readonly location: string;
  /** Resource ID. */
  readonly environmentId: string;
  /** Name of this instance: `sockerless/<hex>`. */
  readonly instance: string;
  /** Image that brings the agent. */
  readonly agentImage: string;
  readonly replicaTimeoutMs: number;
  /** Resource ID of the identity that pulls images and that containers get. */
  readonly identity: string | undefined;
  /** The registry that needs credentials; undefined if none. */
  readonly registry: JobRegistry | undefined;
}

/** A registry in a job's configuration. */
export interface JobRegistry {
  readonly server: string;
  /** Undefined if the identity pulls. */
  readonly username: string | undefined;
}

/** The container that runs the user's process. */
export const mainContainerName = "main";
/** The secret with which an agent proves its identity at its first call. */
export const callbackSecretName = "sockerless-callback";
/** The password at the configured registry. */
const registrySecretName = "sockerless-registry";
const callbackSecretVariable = "SOCKERLESS_CALLBACK_SECRET";

/** The agent's own directory in every container: its binary, and the recorded output. */
const agentDirectory = "/.sockerless";
const agentVolume = "sockerless";
const ownMount: VolumeMount = { volumeName: agentVolume, mountPath: agentDirectory };
/** The agent's binary, if an init container has copied it. */
const copiedAgent = `${agentDirectory}/sockerless-agent`;
/** Resources of an init container: Azure limits them to the total of all others, of which this is the minimum. */
const initResources = { cpu: 0.25, memory: "0.5Gi" } as const;

/** The job of a container's start; deterministic. */
export function jobOf(
  record: ContainerRecord,
  mounts: readonly ResolvedMount[],
  parts: {
    readonly image: JobImage;
    readonly imageMounts: JobImageMounts;
    readonly volumes: JobVolumeParts;
    readonly size: JobSize;
  },
  settings: JobSettings,
): Job {
  const { image, imageMounts, volumes, size } = parts;
  const { copies } = imageMounts;
  const scratch = scratchParts(mounts);
  const images = [image, ...copies.map((copy) => copy.image)];
  const brings = images.some(({ agent }) => agent === undefined);
  const init = [
    ...(brings ? [agentCopyContainer(settings.agentImage)] : []),
    ...copies.map(imageCopyContainer),
  ];
  const pulled = [...images.map(({ reference }) => reference), ...(brings ? [settings.agentImage] : [])];
  const registries = registriesOf(pulled, settings);
  return {
    location: settings.location,
    environmentId: settings.environmentId,
    tags: {
      [instanceTag]: settings.instance,
      [containerTag]: record.id,
      [generationTag]: String(record.generation),
    },
    ...(settings.identity === undefined
      ? {}
      : { identity: { type: "UserAssigned", userAssignedIdentities: { [settings.identity]: {} } } }),
    configuration: {
      triggerType: "Manual",
      replicaTimeout: Math.ceil(settings.replicaTimeoutMs / 1000),
      replicaRetryLimit: 0,
      manualTriggerConfig: { parallelism: 1, replicaCompletionCount: 1 },
      ...(registries.length > 0 ? { registries } : {}),
    },
    template: {
      ...(init.length > 0 ? { initContainers: init } : {}),
      containers: [
        {
          name: mainContainerName,
          image: image.reference,
          command: [image.agent ?? copiedAgent],
          args: ["init"],
          env: environmentOf(record, settings),
          resources: { cpu: size.cpu, memory: `${size.memory}Gi` },
          volumeMounts: [
            ownMount,
            ...scratch.mounts,
            ...volumes.mounts,
            ...imageMounts.mounts.map(({ copy, destination }) => ({
              volumeName: copy,
              mountPath: destination,
            })),
          ],
        },
      ],
      volumes: [
        emptyDirectory(agentVolume),
        ...scratch.volumes,
        ...volumes.volumes,
        ...copies.map(({ name }) => emptyDirectory(name)),
      ],
    },
  };
}

/** Init container that copies the agent into the job's own directory. */
function agentCopyContainer(image: string): InitContainer {
  return {
    name: "agent",
    image,
    command: [agentInImage],
    args: ["cp", copiedAgent],
    resources: initResources,
    volumeMounts: [ownMount],
  };
}

/** Init container that copies its image's files; Azure runs init containers sequentially. */
function imageCopyContainer({ name, args, image }: JobImageCopy): InitContainer {
  return {
    name,
    image: image.reference,
    command: [image.agent ?? copiedAgent],
    args: [...args],
    resources: initResources,
    volumeMounts: [ownMount, { volumeName: name, mountPath: copiedTo }],
  };
}

function emptyDirectory(name: string): Volume {
  return { name, storageType: "EmptyDir" };
}

/** A job with its secrets, which are derived from the instance's secret and never recorded. */
export function withSecrets(
  job: Job,
  {
    callback,
    registryPassword,
  }: { readonly callback: string; readonly registryPassword?: string | undefined },
): Job {
  const needsPassword = (job.configuration?.registries ?? []).some(
    ({ passwordSecretRef }) => passwordSecretRef,
  );
  return {
    ...job,
    configuration: {
      ...(job.configuration ?? { triggerType: "Manual", replicaTimeout: 0 }),
      secrets: [
        { name: callbackSecretName, value: callback },
        ...(needsPassword ? [{ name: registrySecretName, value: registryPassword ?? "" }] : []),
      ],
    },
  };
}

function environmentOf(record: ContainerRecord, settings: JobSettings): EnvironmentVar[] {
  return [
    ...agentEnvironment(record, settings),
    { name: callbackSecretVariable, secretRef: callbackSecretName },
  ];
}

/** Container Apps has no tmpfs: such paths are on the job's disk, and equally empty at each start. */
function scratchParts(mounts: readonly ResolvedMount[]): {
  readonly volumes: readonly Volume[];
  readonly mounts: readonly VolumeMount[];
} {
  const paths = mounts.filter(({ type }) => type === "tmpfs").map(({ destination }) => destination);
  return {
    volumes: paths.map((_path, index) => emptyDirectory(`tmpfs-${index}`)),
    mounts: paths.map((mountPath, index) => ({ volumeName: `tmpfs-${index}`, mountPath })),
  };
}

function registriesOf(images: readonly string[], { registry, identity }: JobSettings): RegistryCredentials[] {
  if (registry === undefined || !images.some((image) => parseNamed(image).domain === registry.server)) {
    return [];
  }
  const { server, username } = registry;
  return username === undefined
    ? [{ server, ...(identity === undefined ? {} : { identity }) }]
    : [{ server, username, passwordSecretRef: registrySecretName }];
}
