/** The pod of one start of a container. Pure. */
import { create } from "@bufbuild/protobuf";
import type {
  V1Container,
  V1EnvVar,
  V1Pod,
  V1PodSpec,
  V1SecurityContext,
  V1Toleration,
  V1Volume,
  V1VolumeMount,
} from "@kubernetes/client-node";

import type { KubernetesSection } from "../../../common/config/load.ts";
import { conflict, invalid } from "../../../common/errors.ts";
import { shortId } from "../../../common/ids.ts";
import {
  type ContainerRecord,
  ContainerRecordSchema,
  type ImageRecord,
  ImageRecordSchema,
} from "../../../gen/sockerless/state/v1/state_pb.ts";
import { type AgentSettings, agentEnvironment } from "../../cloud/agents/agent-environment.ts";
import { agentPort } from "../../cloud/agents/agent-port.ts";
import { agentInImage } from "../../cloud/images/agent-image.ts";
import { copiedImages, copiedTo, type ImageCopy } from "../../cloud/ready-made/copied-images.ts";
import type { WorkloadSpec } from "../../driver/workload-spec.ts";
import { askedCapabilities } from "../../security/linux-capabilities.ts";
import * as names from "../names.ts";
import { networkLabels } from "../networks/policy.ts";
import { claimIn } from "../volumes/claim.ts";
import { mergePatch } from "./pod-patch.ts";
import { initResourcesOf, resourcesOf, type SizeSettings } from "./sizes.ts";

/** Settings of the configuration that all pods of this backend have in common. */
type ConfiguredSettings = Pick<
  KubernetesSection,
  | "annotations"
  | "architecture"
  | "nodeSelector"
  | "podPatch"
  | "priorityClass"
  | "pullSecrets"
  | "restricted"
  | "runtimeClass"
  | "serviceAccount"
  | "tolerations"
>;

/** Settings that all pods of this backend have in common. */
export interface PodSettings extends AgentSettings, SizeSettings, ConfiguredSettings {
  readonly namespace: string;
  /** Name of this instance: `sockerless/<hex>`. */
  readonly instance: string;
  /** Image that brings the agent. */
  readonly agentImage: string;
  /** Agents are dialled at the addresses of their pods; else they are reached through the API server. */
  readonly isDirect: boolean;
}

/** The container that runs the user's process. */
export const mainContainerName = "main";

/** The agent's own directory in every container: its binary and the record of the output. */
const agentDirectory = "/.sockerless";
const agentVolume = "sockerless";
/** The agent's binary, where an init container has brought it. */
const broughtAgent = `${agentDirectory}/sockerless-agent`;
const ownMount: V1VolumeMount = { name: agentVolume, mountPath: agentDirectory };
/** The address that the API server's port forwards reach, and nobody else but the container itself. */
const loopback = `127.0.0.1:${agentPort}`;

const sharedMemoryPath = "/dev/shm";
/** The size of /dev/shm that Docker gives unasked. Bytes. */
const defaultSharedMemory = 64n * 1024n ** 2n;
/** Docker's, for a container that names none. */
const defaultStopTimeoutS = 10;
/** Time that the agent has after its container's end for whoever reads its output. */
const drainS = 20;
/** Names that Kubernetes takes for hosts. */
const hostLabel = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;

/**
 * The pod of a container's start: always the same for the same start.
 *
 * @throws conflict: its image was removed; invalid: a volume is in another namespace
 */
export function podOf(spec: WorkloadSpec, settings: PodSettings): V1Pod {
  const { record } = spec;
  const pod: V1Pod = {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name: names.podNameOf(record.id, record.generation),
      namespace: settings.namespace,
      labels: {
        [names.instanceLabel]: names.instanceValue(settings.instance),
        [names.containerLabel]: shortId(record.id),
        ...networkLabels(record),
      },
      annotations: {
        ...Object.fromEntries(settings.annotations.map(labelOf)),
        [names.containerAnnotation]: record.id,
        [names.generationAnnotation]: String(record.generation),
        [names.nameAnnotation]: record.name,
      },
    },
    spec: podSpecOf(spec, settings),
  };
  return settings.podPatch === undefined ? pod : mergePatch(pod, settings.podPatch);
}

/** A pod as all of this backend's are, of no container: Kubernetes can be asked about the settings by it. */
export function samplePod(settings: PodSettings): V1Pod {
  return podOf(
    {
      record: create(ContainerRecordSchema, {
        ...{ id: "0".repeat(64), name: "sample" },
        config: { user: settings.restricted ? "1000" : "" },
      }),
      image: create(ImageRecordSchema, { id: "sample", driverReference: settings.agentImage }),
      ...{ args: [], env: [], mounts: [] },
      network: { kind: "none" },
    },
    settings,
  );
}

function podSpecOf(spec: WorkloadSpec, settings: PodSettings): V1PodSpec {
  const { record, mounts } = spec;
  const { hostConfig, config } = record;
  const { copies, mounts: copyMounts } = copiedImages(mounts);
  const scratch = scratchParts(spec);
  const volumes = volumeParts(spec, settings.namespace);
  const sysctls = Object.entries(hostConfig?.sysctls ?? {}).sort(([one], [other]) => (one < other ? -1 : 1));
  const asOthers = settings.restricted
    ? withoutRights(config?.user ?? "")
    : { runAsUser: 0, allowPrivilegeEscalation: false };
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
    ...(settings.tolerations.length === 0 ? {} : { tolerations: settings.tolerations.map(tolerationOf) }),
    ...(settings.priorityClass === undefined ? {} : { priorityClassName: settings.priorityClass }),
    ...(settings.runtimeClass === undefined ? {} : { runtimeClassName: settings.runtimeClass }),
    ...(settings.pullSecrets.length === 0
      ? {}
      : { imagePullSecrets: settings.pullSecrets.map((name) => ({ name })) }),
    ...(sysctls.length === 0 && !settings.restricted
      ? {}
      : {
          securityContext: {
            ...(settings.restricted ? { fsGroup: fsGroupOf(config?.user ?? "") } : {}),
            ...(sysctls.length === 0 ? {} : { sysctls: sysctls.map(([name, value]) => ({ name, value })) }),
          },
        }),
    initContainers: [
      bringingContainer(settings.agentImage),
      ...copies.map((copy) => copyingContainer(copy)),
    ].map((container) => ({
      ...container,
      resources: initResourcesOf(hostConfig, settings),
      securityContext: asOthers,
    })),
    containers: [
      {
        name: mainContainerName,
        image: referenceOf(spec.image),
        command: [broughtAgent],
        args: ["init"],
        workingDir: "/",
        env: [...agentEnvironment(record, settings), ...listenVariable(settings)],
        resources: resourcesOf(hostConfig, settings),
        securityContext: securityOf(record, settings.restricted),
        volumeMounts: [
          ownMount,
          ...scratch.mounts,
          ...volumes.mounts,
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
      ...volumes.volumes,
      ...copies.map(({ name }) => ({ name, emptyDir: {} })),
    ],
  };
}

/**
 * An agent that is dialled listens at all addresses unasked. One that calls is asked by a port forward for its key alone, by a
 * connection that nothing resumes.
 */
function listenVariable({ isDirect, callbackUrl }: PodSettings): readonly V1EnvVar[] {
  const name = callbackUrl === undefined ? "SOCKERLESS_JOINED_LISTEN" : "SOCKERLESS_LISTEN";
  return isDirect ? [] : [{ name, value: loopback }];
}

/**
 * The agent begins as root, and runs the command as the container's user. Where the namespace lets nobody be root it is that
 * user, and has no more rights.
 */
function securityOf({ hostConfig, config }: ContainerRecord, restricted: boolean): V1SecurityContext {
  const added = askedCapabilities(hostConfig).added.map((name) => name.replace(/^CAP_/, ""));
  const adding = added.length === 0 ? {} : { add: added };
  const readOnly = hostConfig?.readonlyRootfs === true ? { readOnlyRootFilesystem: true } : {};
  const privileged = hostConfig?.privileged === true ? { privileged: true } : {};
  if (restricted) {
    return { ...withoutRights(config?.user ?? "", adding), ...readOnly, ...privileged };
  }
  return {
    ...{ runAsUser: 0, runAsGroup: 0, runAsNonRoot: false },
    ...(added.length === 0 ? {} : { capabilities: adding }),
    ...readOnly,
    ...privileged,
  };
}

/** The security context that the Pod Security Standard `restricted` asks for. @throws invalid: the user is none that it lets in */
function withoutRights(user: string, adding: { readonly add?: string[] } = {}): V1SecurityContext {
  const { uid, gid } = restrictedUser(user);
  return {
    runAsUser: uid,
    ...(gid === undefined ? {} : { runAsGroup: gid }), // Else the one that the image gives the user.
    runAsNonRoot: true,
    allowPrivilegeEscalation: false,
    capabilities: { drop: ["ALL"], ...adding },
    seccompProfile: { type: "RuntimeDefault" },
  };
}

/** The user of a container in a namespace that lets nobody be root. @throws invalid */
export function restrictedUser(user: string): { readonly uid: number; readonly gid: number | undefined } {
  const { uid = "0", gid } = /^(?<uid>\d+)(:(?<gid>\d+))?$/.exec(user)?.groups ?? {};
  if (Number(uid) === 0) {
    throw invalid(
      `nobody can be ${user === "" ? "root" : user} in this namespace (kubernetes.restricted): a container needs a user by number, as with --user 1000`,
    );
  }
  return { uid: Number(uid), gid: gid === undefined ? undefined : Number(gid) };
}

/** The group that volumes are given, so that a user who is not root can write to them. */
function fsGroupOf(user: string): number {
  const { uid, gid } = restrictedUser(user);
  return gid ?? uid;
}

/** Brings the agent into the pod's own directory. */
function bringingContainer(image: string): V1Container {
  return {
    name: "agent",
    image,
    command: [agentInImage],
    args: ["cp", broughtAgent],
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

/** Volumes: claims, each once, and directories of the pod's own where the container's root cannot be written. */
function volumeParts(spec: WorkloadSpec, namespace: string): MountParts {
  const volumes = new Map<string, V1Volume>();
  const mounts: V1VolumeMount[] = [];
  for (const { volume, destination: mountPath, readOnly, subpath = "" } of spec.mounts) {
    if (volume === undefined) {
      continue;
    }
    const claimName = claimIn(namespace, volume);
    if (claimName === undefined && !isOwnDirectory(spec)) {
      continue;
    }
    const key = claimName ?? volume.name;
    const name = volumes.get(key)?.name ?? `volume-${volumes.size}`;
    volumes.set(
      key,
      claimName === undefined ? { name, emptyDir: {} } : { name, persistentVolumeClaim: { claimName } },
    );
    mounts.push({
      name,
      mountPath,
      ...(readOnly ? { readOnly } : {}),
      ...(subpath === "" ? {} : { subPath: subpath }),
    });
  }
  return { volumes: [...volumes.values()], mounts };
}

function isOwnDirectory({ record }: WorkloadSpec): boolean {
  return record.hostConfig?.readonlyRootfs === true;
}

/** Paths of volumes that a pod has without a mount: the agent makes their directories, the image's content stays. */
export function unmountedVolumes(spec: WorkloadSpec): readonly string[] {
  return spec.mounts
    .filter(({ volume }) => volume?.driverReference === "" && !isOwnDirectory(spec))
    .map(({ destination }) => destination);
}

/** An image as nodes pull it. @throws conflict: it was removed */
function referenceOf({ id, driverReference }: ImageRecord): string {
  if (driverReference === "") {
    throw conflict(`image ${id} has been removed: a container of it cannot be started any more`);
  }
  return driverReference;
}

/** `key=value:NoSchedule`, `key:NoExecute`, `key` (any effect). */
function tolerationOf(text: string): V1Toleration {
  const [, key = "", value, effect] = /^([^=:]*)(?:=([^:]*))?(?::(.+))?$/.exec(text) ?? [];
  return {
    ...(key === "" ? {} : { key }),
    ...(value === undefined ? { operator: "Exists" } : { operator: "Equal", value }),
    ...(effect === undefined ? {} : { effect }),
  };
}

function labelOf(label: string): [string, string] {
  const at = label.indexOf("=");
  return [label.slice(0, at), label.slice(at + 1)];
}
