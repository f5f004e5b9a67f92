/** The pod of one start of a container. Pure. */
import type {
  V1Container,
  V1EnvVar,
  V1Pod,
  V1PodSpec,
  V1SecurityContext,
  V1Volume,
  V1VolumeMount,
} from "@kubernetes/client-node";

import { conflict } from "../../../common/errors.ts";
import { shortId } from "../../../common/ids.ts";
import type { ContainerRecord, ImageRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { type AgentSettings, agentEnvironment } from "../../cloud/agents/agent-environment.ts";
import { agentPort } from "../../cloud/agents/agent-port.ts";
import { agentInImage } from "../../cloud/images/agent-image.ts";
import { copiedImages, copiedTo, type ImageCopy } from "../../cloud/ready-made/copied-images.ts";
import type { WorkloadSpec } from "../../driver/workload-spec.ts";
import { askedCapabilities } from "../../security/linux-capabilities.ts";
import * as names from "../names.ts";
import { resourcesOf, type SizeSettings } from "./sizes.ts";

/** Settings that all pods of this backend have in common. */
export interface PodSettings extends AgentSettings, SizeSettings {
  readonly namespace: string;
  /** Name of this instance: `sockerless/<hex>`. */
  readonly instance: string;
  /** Image that brings the agent. */
  readonly agentImage: string;
  readonly architecture: string;
  readonly pullSecrets: readonly string[];
  /** `label=value`. */
  readonly nodeSelector: readonly string[];
  readonly serviceAccount: string | undefined;
  readonly runtimeClass: string | undefined;
}

/** The container that runs the user's process. */
export const mainContainerName = "main";

/** The agent's own directory in every container: its binary and the record of the output. */
const agentDirectory = "/.sockerless";
const agentVolume = "sockerless";
/** The agent's binary, where an init container has brought it. */
const broughtAgent = `${agentDirectory}/sockerless-agent`;
const ownMount: V1VolumeMount = { name: agentVolume, mountPath: agentDirectory };
/** The agent listens where the API server's port forward comes in, and nobody else but the container itself. */
const joinedVariable: V1EnvVar = { name: "SOCKERLESS_JOINED_LISTEN", value: `127.0.0.1:${agentPort}` };

const sharedMemoryPath = "/dev/shm";
/** The size of /dev/shm that Docker gives unasked. Bytes. */
const defaultSharedMemory = 64n * 1024n ** 2n;
/** Docker's, for a container that names none. */
const defaultStopTimeoutS = 10;
/** Time that the agent has after its container's end for whoever reads its output. */
const drainS = 20;
/** Names that Kubernetes takes for hosts. */
const hostLabel = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;

/** The pod of a container's start: always the same for the same start. @throws conflict: its image was removed */
export function podOf(spec: WorkloadSpec, settings: PodSettings): V1Pod {
  const { record } = spec;
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name: names.podNameOf(record.id, record.generation),
      namespace: settings.namespace,
      labels: {
        [names.instanceLabel]: names.instanceValue(settings.instance),
        [names.containerLabel]: shortId(record.id),
      },
      annotations: {
        [names.containerAnnotation]: record.id,
        [names.generationAnnotation]: String(record.generation),
        [names.nameAnnotation]: record.name,
      },
    },
    spec: podSpecOf(spec, settings),
  };
}

function podSpecOf(spec: WorkloadSpec, settings: PodSettings): V1PodSpec {
  const { record, mounts } = spec;
  const { hostConfig, config } = record;
  const { copies, mounts: copyMounts } = copiedImages(mounts);
  const scratch = scratchParts(spec);
  const sysctls = Object.entries(hostConfig?.sysctls ?? {}).sort(([one], [other]) => (one < other ? -1 : 1));
  const hostname = (config?.hostname ?? "").toLowerCase();
  return {
    restartPolicy: "Never",
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    terminationGracePeriodSeconds: (config?.stopTimeout ?? defaultStopTimeoutS) + drainS,
    nodeSelector: {
      ...Object.fromEntries(settings.nodeSelector.map(labelOf)),
      "kubernetes.io/os": "linux",
      "kubernetes.io/arch": settings.architecture,
    },
    ...(hostLabel.test(hostname) ? { hostname } : {}),
    ...(settings.serviceAccount === undefined ? {} : { serviceAccountName: settings.serviceAccount }),
    ...(settings.runtimeClass === undefined ? {} : { runtimeClassName: settings.runtimeClass }),
    ...(settings.pullSecrets.length === 0
      ? {}
      : { imagePullSecrets: settings.pullSecrets.map((name) => ({ name })) }),
    ...(sysctls.length === 0
      ? {}
      : { securityContext: { sysctls: sysctls.map(([name, value]) => ({ name, value })) } }),
    initContainers: [bringingContainer(settings.agentImage), ...copies.map(copyingContainer)],
    containers: [
      {
        name: mainContainerName,
        image: referenceOf(spec.image),
        command: [broughtAgent],
        args: ["init"],
        workingDir: "/",
        env: [...agentEnvironment(record, settings), joinedVariable],
        resources: resourcesOf(hostConfig, settings),
        securityContext: securityOf(record),
        volumeMounts: [
          ownMount,
          ...scratch.mounts,
          ...copyMounts.map(({ copy, destination, readOnly }) => ({
            name: copy,
            mountPath: destination,
            readOnly,
          })),
        ],
      },
    ],
    volumes: [
      { name: agentVolume, emptyDir: {} },
      ...scratch.volumes,
      ...copies.map(({ name }) => ({ name, emptyDir: {} })),
    ],
  };
}

/** The agent begins as root, and runs the command as the container's user. */
function securityOf({ hostConfig }: ContainerRecord): V1SecurityContext {
  const added = askedCapabilities(hostConfig).added.map((name) => name.replace(/^CAP_/, ""));
  return {
    runAsUser: 0,
    runAsGroup: 0,
    runAsNonRoot: false,
    ...(added.length === 0 ? {} : { capabilities: { add: added } }),
    ...(hostConfig?.readonlyRootfs === true ? { readOnlyRootFilesystem: true } : {}),
  };
}

/** Brings the agent into the pod's own directory. */
function bringingContainer(image: string): V1Container {
  return {
    name: "agent",
    image,
    command: [agentInImage],
    args: ["cp", broughtAgent],
    securityContext: { runAsUser: 0, allowPrivilegeEscalation: false },
    volumeMounts: [ownMount],
  };
}

/** Copies the files of its image; init containers run one after the other. */
function copyingContainer({ name, args, image }: ImageCopy): V1Container {
  return {
    name,
    image: referenceOf(image),
    command: [broughtAgent],
    args: [...args],
    securityContext: { runAsUser: 0 },
    volumeMounts: [ownMount, { name, mountPath: copiedTo }],
  };
}

interface MountParts {
  readonly volumes: readonly V1Volume[];
  readonly mounts: readonly V1VolumeMount[];
}

/** Memory that is mounted: `--tmpfs`, and `--shm-size`, which no pod has a setting for. */
function scratchParts({ record, mounts }: WorkloadSpec): MountParts {
  const paths = mounts
    .filter(({ type }) => type === "tmpfs")
    .map(({ destination, tmpfsOptions = [] }) => ({
      destination,
      size: tmpfsOptions.find((option) => /^size=\d+[kmg]?$/i.test(option))?.slice("size=".length),
    }));
  const asked = record.hostConfig?.shmSize ?? 0n;
  if (!mounts.some(({ destination }) => destination === sharedMemoryPath)) {
    paths.push({ destination: sharedMemoryPath, size: String(asked === 0n ? defaultSharedMemory : asked) });
  }
  return {
    volumes: paths.map(({ size }, index) => ({
      name: `tmpfs-${index}`,
      emptyDir: { medium: "Memory", ...(size === undefined ? {} : { sizeLimit: quantityOf(size) }) },
    })),
    mounts: paths.map(({ destination: mountPath }, index) => ({ name: `tmpfs-${index}`, mountPath })),
  };
}

/** The kernel's `64m` as Kubernetes writes it. */
function quantityOf(size: string): string {
  const [, digits = "", unit = ""] = /^(\d+)([kmg]?)$/i.exec(size) ?? [];
  return unit === "" ? digits : `${digits}${unit.toUpperCase()}i`;
}

/** Paths of volumes that a pod has without a mount: the agent makes their directories, the image's content stays. */
export function unmountedVolumes({ mounts }: WorkloadSpec): readonly string[] {
  return mounts.filter(({ volume }) => volume !== undefined).map(({ destination }) => destination);
}

/** An image as nodes pull it. @throws conflict: it was removed */
function referenceOf({ id, driverReference }: ImageRecord): string {
  if (driverReference === "") {
    throw conflict(`image ${id} has been removed: a container of it cannot be started any more`);
  }
  return driverReference;
}

function labelOf(label: string): [string, string] {
  const at = label.indexOf("=");
  return [label.slice(0, at), label.slice(at + 1)];
}
