/** `HostConfig`: how a container is run, between Docker's JSON and the backend's message. */
import { create } from "@bufbuild/protobuf";

import {
  type HostConfig,
  HostConfigSchema,
  type PortBinding,
  PortBindingSchema,
  type StringList,
  StringListSchema,
} from "../../gen/sockerless/backend/v1/config_pb.ts";
import { JsonFields } from "./json-fields.ts";
import { listOrNull, unlessEmpty, unlessNoKeys } from "./json-values.ts";
import { mountFromJson, mountToJson } from "./mounts.ts";
import { resourcesFromJson, resourcesToJson } from "./resources.ts";

/** Reads `HostConfig`. */
export function hostConfigFromJson(fields: JsonFields): HostConfig {
  const logConfig = fields.object("LogConfig");
  const restartPolicy = fields.object("RestartPolicy");
  const [consoleHeight = 0, consoleWidth = 0] = fields.uint32s("ConsoleSize", 2);
  const init = fields.optionalBoolean("Init");
  const config = create(HostConfigSchema, {
    binds: fields.strings("Binds"),
    containerIdFile: fields.string("ContainerIDFile"),
    logConfig: { type: logConfig?.string("Type") ?? "", config: logConfig?.stringMap("Config") ?? {} },
    networkMode: fields.string("NetworkMode"),
    portBindings: portBindingsFromJson(fields),
    restartPolicy: {
      name: restartPolicy?.string("Name") ?? "",
      maximumRetryCount: restartPolicy?.int32("MaximumRetryCount") ?? 0,
    },
    autoRemove: fields.boolean("AutoRemove"),
    volumeDriver: fields.string("VolumeDriver"),
    volumesFrom: fields.strings("VolumesFrom"),
    consoleHeight,
    consoleWidth,
    annotations: fields.stringMap("Annotations"),
    capAdd: fields.command("CapAdd") ?? [],
    capDrop: fields.command("CapDrop") ?? [],
    cgroupnsMode: fields.string("CgroupnsMode"),
    dns: fields.strings("Dns"),
    dnsOptions: fields.strings("DnsOptions"),
    dnsSearch: fields.strings("DnsSearch"),
    extraHosts: fields.strings("ExtraHosts"),
    groupAdd: fields.strings("GroupAdd"),
    ipcMode: fields.string("IpcMode"),
    cgroup: fields.string("Cgroup"),
    links: fields.strings("Links"),
    oomScoreAdj: fields.int32("OomScoreAdj"),
    pidMode: fields.string("PidMode"),
    privileged: fields.boolean("Privileged"),
    publishAllPorts: fields.boolean("PublishAllPorts"),
    readonlyRootfs: fields.boolean("ReadonlyRootfs"),
    securityOpt: fields.strings("SecurityOpt"),
    storageOpt: fields.stringMap("StorageOpt"),
    tmpfs: fields.stringMap("Tmpfs"),
    utsMode: fields.string("UTSMode"),
    usernsMode: fields.string("UsernsMode"),
    shmSize: fields.int64("ShmSize"),
    sysctls: fields.stringMap("Sysctls"),
    runtime: fields.string("Runtime"),
    isolation: fields.string("Isolation"),
    resources: resourcesFromJson(fields),
    mounts: fields.objects("Mounts").map(mountFromJson),
    ...(init === undefined ? {} : { init }),
  });
  const maskedPaths = fields.optionalStrings("MaskedPaths");
  if (maskedPaths !== undefined) {
    config.maskedPaths = create(StringListSchema, { values: maskedPaths });
  }
  const readonlyPaths = fields.optionalStrings("ReadonlyPaths");
  if (readonlyPaths !== undefined) {
    config.readonlyPaths = create(StringListSchema, { values: readonlyPaths });
  }
  return config;
}

/** `HostConfig` of a container's inspect. */
export function hostConfigToJson(config: HostConfig): Record<string, unknown> {
  return {
    Binds: listOrNull(config.binds),
    ContainerIDFile: config.containerIdFile,
    LogConfig: { Type: config.logConfig?.type ?? "", Config: config.logConfig?.config ?? {} },
    NetworkMode: config.networkMode,
    PortBindings: portBindingsToJson(config.portBindings),
    RestartPolicy: {
      Name: config.restartPolicy?.name ?? "",
      MaximumRetryCount: config.restartPolicy?.maximumRetryCount ?? 0,
    },
    AutoRemove: config.autoRemove,
    VolumeDriver: config.volumeDriver,
    VolumesFrom: listOrNull(config.volumesFrom),
    ConsoleSize: [config.consoleHeight, config.consoleWidth],
    Annotations: unlessNoKeys(config.annotations),
    CapAdd: listOrNull(config.capAdd),
    CapDrop: listOrNull(config.capDrop),
    CgroupnsMode: config.cgroupnsMode,
    Dns: config.dns,
    DnsOptions: config.dnsOptions,
    DnsSearch: config.dnsSearch,
    ExtraHosts: listOrNull(config.extraHosts),
    GroupAdd: listOrNull(config.groupAdd),
    IpcMode: config.ipcMode,
    Cgroup: config.cgroup,
    Links: listOrNull(config.links),
    OomScoreAdj: config.oomScoreAdj,
    PidMode: config.pidMode,
    Privileged: config.privileged,
    PublishAllPorts: config.publishAllPorts,
    ReadonlyRootfs: config.readonlyRootfs,
    SecurityOpt: listOrNull(config.securityOpt),
    StorageOpt: unlessNoKeys(config.storageOpt),
    Tmpfs: unlessNoKeys(config.tmpfs),
    UTSMode: config.utsMode,
    UsernsMode: config.usernsMode,
    ShmSize: config.shmSize,
    Sysctls: unlessNoKeys(config.sysctls),
    Runtime: unlessEmpty(config.runtime),
    Isolation: config.isolation,
    ...resourcesToJson(config.resources),
    Mounts: config.mounts.length === 0 ? undefined : config.mounts.map(mountToJson),
    MaskedPaths: pathsOrNull(config.maskedPaths),
    ReadonlyPaths: pathsOrNull(config.readonlyPaths),
    Init: config.init,
  };
}

function portBindingsFromJson(fields: JsonFields): PortBinding[] {
  const path = fields.pathOf("PortBindings");
  return fields.entries("PortBindings", "nat.PortMap").flatMap(([containerPort, value]) => {
    const bindings = new JsonFields({ [containerPort]: value }, path).objects(containerPort);
    if (bindings.length === 0) {
      return [create(PortBindingSchema, { containerPort, noHostBinding: true })];
    }
    return bindings.map((binding) =>
      create(PortBindingSchema, {
        containerPort,
        hostIp: binding.string("HostIp"),
        hostPort: binding.string("HostPort"),
      }),
    );
  });
}

function portBindingsToJson(bindings: readonly PortBinding[]): Record<string, unknown> {
  const ports = new Map<string, { HostIp: string; HostPort: string }[]>();
  for (const { containerPort, hostIp, hostPort, noHostBinding } of bindings) {
    const list = ports.get(containerPort) ?? [];
    ports.set(containerPort, list);
    if (!noHostBinding) {
      list.push({ HostIp: hostIp, HostPort: hostPort });
    }
  }
  return Object.fromEntries(ports);
}

function pathsOrNull(list: StringList | undefined): readonly string[] | null {
  return list === undefined ? null : list.values;
}
