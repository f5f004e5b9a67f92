/** Rules for jobs that no shape tells. README.md names the source of each code. */
import { ArmFault, notSimulated } from "../../wire/fault.ts";
import type { ContainerBody, JobBody, TemplateBody, VolumeBody } from "./bodies.ts";

/** The part of a job's surroundings that its rules ask. */
export interface JobSurroundings {
  readonly name: string;
  /** The kind of a storage of the environment; undefined: there is none of that name. */
  storageKind(name: string): "AzureFile" | "NfsAzureFile" | undefined;
  hasEnvironment(id: string): boolean;
}

const jobName = /^[a-z]([-a-z0-9]*[a-z0-9])?$/;
const label = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const secretName = /^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$/;
const variableName = /^[-._a-zA-Z][-._a-zA-Z0-9]*$/;

/** A container's size where it says none. */
const defaultSize = { cpu: 0.5, memory: "1Gi" };
const maxTags = 50;
/** CPUs that a job may have in all its containers. */
const maxCpu = 4;

function refuse(code: string, message: string, status = 400): never {
  throw new ArmFault(status, code, message);
}

/**
 * Checks a job.
 *
 * @throws ArmFault
 */
export function checkJob(job: JobBody, around: JobSurroundings): void {
  const { properties = {}, identity, tags = {} } = job;
  checkName(around.name);
  checkTags(tags);
  const { configuration, template, environmentId = "" } = properties;
  if (!around.hasEnvironment(environmentId)) {
    refuse("InvalidManagedEnvironmentId", `Invalid ManagedEnvironmentId value '${environmentId}'.`);
  }
  if (configuration === undefined || template === undefined) {
    refuse("InvalidRequestContent", "The properties 'configuration' and 'template' of a job are required.");
  }
  checkTrigger(configuration);
  checkSecrets(configuration.secrets ?? []);
  const secrets = new Set((configuration.secrets ?? []).map(({ name = "" }) => name));
  checkRegistries(configuration.registries ?? [], secrets, identity);
  checkTemplate(template, secrets, around);
}

function checkName(name: string): void {
  if (!jobName.test(name) || name.includes("--") || name.length > 32) {
    const message = `Invalid Job name '${name}'. A name must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character and cannot have '--'. The length must not be more than 32 characters.`;
    refuse("ContainerAppInvalidName", message);
  }
}

/** Limits of tags on every resource of Azure. */
function checkTags(tags: Readonly<Record<string, string>>): void {
  for (const [name, value] of Object.entries(tags)) {
    if (/[<>%&\\?/]/.test(name) || name.length > 512 || name === "") {
      refuse("InvalidTagNameCharacters", `The tag name '${name}' is invalid.`);
    }
    if (value.length > 256) {
      refuse("InvalidTagValueLength", `The value of the tag '${name}' has more than 256 characters.`);
    }
  }
  if (Object.keys(tags).length > maxTags) {
    refuse("InvalidTagCount", `A resource has at most ${maxTags} tags.`);
  }
}

function checkTrigger(configuration: NonNullable<NonNullable<JobBody["properties"]>["configuration"]>): void {
  const { triggerType, replicaTimeout = 0, replicaRetryLimit = 0, manualTriggerConfig = {} } = configuration;
  if (triggerType !== "Manual") {
    throw notSimulated(`the trigger ${triggerType}`);
  }
  if (replicaTimeout < 1) {
    refuse("InvalidRequestContent", "replicaTimeout has to be above 0.");
  }
  if (replicaRetryLimit !== 0) {
    throw notSimulated("another replica after a failure");
  }
  const { parallelism = 1, replicaCompletionCount = 1 } = manualTriggerConfig;
  if (parallelism !== 1 || replicaCompletionCount !== 1) {
    throw notSimulated("a job of several replicas");
  }
}

function checkSecrets(
  secrets: NonNullable<NonNullable<JobBody["properties"]>["configuration"]>["secrets"] & {},
): void {
  const names = secrets.map(({ name = "" }) => name);
  for (const name of names) {
    if (!secretName.test(name) || name.length > 253) {
      const message = `Invalid Request: Container app secret name '${name}' is invalid. A name must consist of lower case alphanumeric characters, '-' or '.', and start and end with an alphanumeric character.`;
      refuse("ContainerAppSecretInvalid", message);
    }
  }
  refuseDuplicates("secret", names);
  if (secrets.some(({ keyVaultUrl }) => keyVaultUrl !== undefined)) {
    throw notSimulated("a secret in Key Vault");
  }
  const empty = secrets.filter(({ value }) => value === undefined || value === "").map(({ name }) => name);
  if (empty.length > 0) {
    const message = `Invalid Request: Container app secret(s) with name(s) '${empty.join(", ")}' are invalid: value or keyVaultUrl and identity should be provided.`;
    refuse("ContainerAppSecretInvalid", message);
  }
}

function checkRegistries(
  registries: NonNullable<NonNullable<JobBody["properties"]>["configuration"]>["registries"] & {},
  secrets: ReadonlySet<string>,
  identity: JobBody["identity"],
): void {
  refuseDuplicates(
    "registry",
    registries.map(({ server = "" }) => server),
  );
  for (const registry of registries) {
    const { server = "", username = "", passwordSecretRef = "" } = registry;
    if (server === "") {
      refuse("ContainerAppRegistryInvalid", "Invalid Request: a registry has no server.");
    }
    if (registry.identity === undefined || registry.identity === "") {
      if (username === "" || passwordSecretRef === "") {
        const message = `Invalid Request: Container app registry '${server}' has neither an identity nor username and passwordSecretRef.`;
        refuse("ContainerAppRegistryInvalid", message);
      }
      if (!secrets.has(passwordSecretRef)) {
        refuse(
          "ContainerAppSecretRefNotFound",
          `SecretRef '${passwordSecretRef}' defined for registry '${server}' not found.`,
        );
      }
    } else {
      checkAssigned(registry.identity, identity);
    }
  }
}

function checkAssigned(wanted: string, identity: JobBody["identity"]): void {
  const assigned = Object.keys(identity?.userAssignedIdentities ?? {}).map((id) => id.toLowerCase());
  const isThere =
    wanted === "system"
      ? identity?.type?.includes("SystemAssigned")
      : assigned.includes(wanted.toLowerCase());
  if (isThere !== true) {
    refuse("ContainerAppIdentityNotAssigned", `The identity '${wanted}' is not assigned to the job.`);
  }
}

function checkTemplate(template: TemplateBody, secrets: ReadonlySet<string>, around: JobSurroundings): void {
  const { containers = [], initContainers = [], volumes = [] } = template;
  if (containers.length === 0) {
    refuse("ContainerAppCreateMustContainContainers", "A job has at least one container.");
  }
  for (const volume of volumes) {
    checkVolume(volume, around);
  }
  refuseDuplicates(
    "volume",
    volumes.map(({ name = "" }) => name),
  );
  const all = [...initContainers, ...containers];
  refuseDuplicates(
    "container",
    all.map(({ name = "" }) => name),
  );
  for (const container of all) {
    checkContainer(container, volumes, secrets, around.name);
  }
  checkTotal(containers);
  checkInitContainers(initContainers, containers);
}

function checkVolume(volume: VolumeBody, { storageKind }: JobSurroundings): void {
  const { name = "", storageType = "EmptyDir", storageName } = volume;
  if (!label.test(name) || name.length > 63) {
    const message = `Invalid Request: Volume name '${name}' is invalid: it must consist of lower case alphanumeric characters or '-', without dots.`;
    refuse("ContainerAppInvalidVolumeName", message);
  }
  if (storageType === "Secret") {
    throw notSimulated("a volume of secrets");
  }
  if (storageType === "EmptyDir") {
    if (storageName !== undefined) {
      refuse(
        "ContainerAppInvalidVolume",
        `Invalid Request: the EmptyDir volume '${name}' has a storageName.`,
      );
    }
  } else if (storageKind(storageName ?? "") !== storageType) {
    const message = `Storage ${storageName ?? ""} not found under managed environment`;
    refuse("ManagedEnvironmentStorageNotFound", message);
  }
  parseMountOptions(volume.mountOptions ?? "");
}

/** Options of a mount by name. @throws ArmFault for an option that mount.cifs does not know */
export function parseMountOptions(text: string): ReadonlyMap<string, string> {
  const options = new Map<string, string>();
  for (const part of text.split(",").filter((each) => each !== "")) {
    const [name = "", value = ""] = part.trim().split("=");
    const pattern = mountOptions[name];
    if (pattern === undefined || !pattern.test(value)) {
      refuse("ContainerAppInvalidMountOptions", `Invalid Request: mount option '${part}' is invalid.`);
    }
    options.set(name, value);
  }
  return options;
}

const number = /^\d+$/;
const mode = /^[0-7]{3,4}$/;
const flag = /^$/;
const mountOptions: Readonly<Record<string, RegExp>> = {
  uid: number,
  gid: number,
  dir_mode: mode,
  file_mode: mode,
  mfsymlinks: flag,
  nobrl: flag,
  serverino: flag,
  nosharesock: flag,
  noperm: flag,
  actimeo: number,
  cache: /^(none|strict|loose)$/,
  vers: /^3(\.\d(\.\d)?)?$/,
};

function checkContainer(
  container: ContainerBody,
  volumes: readonly VolumeBody[],
  secrets: ReadonlySet<string>,
  job: string,
): void {
  const { name = "", image = "", env = [], volumeMounts = [], probes = [] } = container;
  if (!label.test(name) || name.length > 63) {
    refuse("ContainerAppInvalidContainerName", `Invalid Request: Container name '${name}' is invalid.`);
  }
  if (image === "") {
    refuse(
      "ContainerAppImageRequired",
      `Container with name '${name}' must have an 'Image' property specified.`,
    );
  }
  if (probes.length > 0) {
    throw notSimulated("a probe");
  }
  for (const variable of env) {
    if (!variableName.test(variable.name ?? "")) {
      refuse(
        "ContainerAppInvalidEnvVarName",
        `Env variable name '${variable.name}' contains invalid character.`,
      );
    }
    if (variable.secretRef !== undefined && !secrets.has(variable.secretRef)) {
      const message = `SecretRef '${variable.secretRef}' defined for container '${name}' not found.`;
      refuse("ContainerAppSecretRefNotFound", message);
    }
  }
  for (const { volumeName = "", mountPath = "", subPath = "" } of volumeMounts) {
    if (!volumes.some((volume) => volume.name === volumeName)) {
      const message = `Invalid Request: Volume '${volumeName}' to mount doesn't defined in the Container App '${job}'.`;
      refuse("ContainerAppInvalidVolumeMount", message);
    }
    if (!mountPath.startsWith("/") || mountPath === "/" || mountPath.includes(":")) {
      const message = `Invalid Request: Invalid mount path was given. mountPath is required when mounting volume '${volumeName}'. mountPath must not contain ':'.`;
      refuse("ContainerAppInvalidMountPath", message);
    }
    if (subPath.startsWith("/") || subPath.split("/").includes("..")) {
      refuse("ContainerAppInvalidSubPath", `Invalid Request: subPath '${subPath}' is no relative path.`);
    }
  }
  refuseDuplicates(
    `mount path of container '${name}'`,
    volumeMounts.map(({ mountPath = "" }) => mountPath.replace(/\/+$/, "")),
  );
}

function refuseDuplicates(what: string, names: readonly string[]): void {
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) {
    refuse("InvalidRequestContent", `The ${what} '${twice}' is there twice.`);
  }
}

/** The size of a container in CPUs and GiB. @throws ArmFault */
export function sizeOf({ name, resources = {} }: ContainerBody): {
  readonly cpu: number;
  readonly gib: number;
} {
  const { cpu = defaultSize.cpu, memory = defaultSize.memory } = resources;
  const gib = /^(\d+(?:\.\d+)?)Gi$/.exec(memory)?.[1];
  if (gib === undefined || cpu <= 0) {
    refuse("ContainerAppInvalidResource", `Invalid Request: resources of container '${name}' are invalid.`);
  }
  return { cpu, gib: Number(gib) };
}

function checkInitContainers(
  initContainers: readonly ContainerBody[],
  containers: readonly ContainerBody[],
): void {
  const total = containers.reduce((sum, container) => sum + sizeOf(container).cpu, 0);
  for (const container of initContainers) {
    const { cpu } = sizeOf(container);
    if (cpu > total) {
      const message = `Invalid CPU value ${cpu} for init container ${container.name} ,an init container can not be allocated more CPU than the total CPU ${total} allocated for all app containers.`;
      refuse("ContainerAppInitContainersInvalidCpu", message);
    }
  }
}

function checkTotal(containers: readonly ContainerBody[]): void {
  const sizes = containers.map(sizeOf);
  const cpu = sizes.reduce((sum, size) => sum + size.cpu, 0);
  const gib = sizes.reduce((sum, size) => sum + size.gib, 0);
  const steps = Array.from({ length: maxCpu * 4 }, (_, index) => (index + 1) / 4);
  if (!steps.some((step) => Math.abs(step - cpu) < 1e-9 && Math.abs(step * 2 - gib) < 1e-9)) {
    const pairs = steps.map((step) => `[cpu: ${step}, memory: ${step * 2}Gi]`).join("; ");
    const message = `The total requested CPU and memory resources for this application (CPU: ${cpu}, memory: ${gib}) is invalid. Total CPU and memory for all containers defined in a Container App must add up to one of the following CPU - Memory combinations: ${pairs}`;
    refuse("ContainerAppInvalidResourceTotal", message);
  }
}
