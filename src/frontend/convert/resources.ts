/** The resource limits in `HostConfig`, between Docker's JSON and the backend's message. */
import { create } from "@bufbuild/protobuf";

import {
  type Resources,
  ResourcesSchema,
  type ThrottleDevice,
  ThrottleDeviceSchema,
} from "../../gen/sockerless/backend/v1/config_pb.ts";
import type { JsonFields } from "./json-fields.ts";
import { listOrNull, unlessZero } from "./json-values.ts";

/** Reads the limits, whose keys are direct members of `HostConfig`. */
export function resourcesFromJson(fields: JsonFields): Resources {
  const resources = create(ResourcesSchema, {
    cpuShares: fields.int64("CpuShares"),
    memory: fields.int64("Memory"),
    nanoCpus: fields.int64("NanoCpus"),
    cgroupParent: fields.string("CgroupParent"),
    blkioWeight: fields.uint16("BlkioWeight"),
    blkioWeightDevice: fields
      .objects("BlkioWeightDevice")
      .map((device) => ({ path: device.string("Path"), weight: device.uint16("Weight") })),
    blkioDeviceReadBps: throttleDevices(fields, "BlkioDeviceReadBps"),
    blkioDeviceWriteBps: throttleDevices(fields, "BlkioDeviceWriteBps"),
    blkioDeviceReadIops: throttleDevices(fields, "BlkioDeviceReadIOps"),
    blkioDeviceWriteIops: throttleDevices(fields, "BlkioDeviceWriteIOps"),
    cpuPeriod: fields.int64("CpuPeriod"),
    cpuQuota: fields.int64("CpuQuota"),
    cpuRealtimePeriod: fields.int64("CpuRealtimePeriod"),
    cpuRealtimeRuntime: fields.int64("CpuRealtimeRuntime"),
    cpusetCpus: fields.string("CpusetCpus"),
    cpusetMems: fields.string("CpusetMems"),
    devices: fields.objects("Devices").map((device) => ({
      pathOnHost: device.string("PathOnHost"),
      pathInContainer: device.string("PathInContainer"),
      cgroupPermissions: device.string("CgroupPermissions"),
    })),
    deviceCgroupRules: fields.strings("DeviceCgroupRules"),
    deviceRequests: fields.objects("DeviceRequests").map((request) => ({
      driver: request.string("Driver"),
      count: request.int32("Count"),
      deviceIds: request.strings("DeviceIDs"),
      capabilities: request.stringLists("Capabilities").map((values) => ({ values })),
      options: request.stringMap("Options"),
    })),
    kernelMemory: fields.int64("KernelMemory"),
    kernelMemoryTcp: fields.int64("KernelMemoryTCP"),
    memoryReservation: fields.int64("MemoryReservation"),
    memorySwap: fields.int64("MemorySwap"),
    ulimits: fields.objects("Ulimits").map((ulimit) => ({
      name: ulimit.string("Name"),
      soft: ulimit.int64("Soft"),
      hard: ulimit.int64("Hard"),
    })),
    cpuCount: fields.int64("CpuCount"),
    cpuPercent: fields.int64("CpuPercent"),
    ioMaximumIops: fields.uint64("IOMaximumIOps"),
    ioMaximumBandwidth: fields.uint64("IOMaximumBandwidth"),
  });
  const memorySwappiness = fields.optionalInt64("MemorySwappiness");
  if (memorySwappiness !== undefined) {
    resources.memorySwappiness = memorySwappiness;
  }
  const oomKillDisable = fields.optionalBoolean("OomKillDisable");
  if (oomKillDisable !== undefined) {
    resources.oomKillDisable = oomKillDisable;
  }
  const pidsLimit = fields.optionalInt64("PidsLimit");
  if (pidsLimit !== undefined) {
    resources.pidsLimit = pidsLimit;
  }
  return resources;
}

/** The limits as members of an inspect's `HostConfig`. */
export function resourcesToJson(given: Resources | undefined): Record<string, unknown> {
  const resources = given ?? create(ResourcesSchema);
  return {
    CpuShares: resources.cpuShares,
    Memory: resources.memory,
    NanoCpus: resources.nanoCpus,
    CgroupParent: resources.cgroupParent,
    BlkioWeight: resources.blkioWeight,
    BlkioWeightDevice: resources.blkioWeightDevice.map(({ path, weight }) => ({
      Path: path,
      Weight: weight,
    })),
    BlkioDeviceReadBps: resources.blkioDeviceReadBps.map(throttleDeviceToJson),
    BlkioDeviceWriteBps: resources.blkioDeviceWriteBps.map(throttleDeviceToJson),
    BlkioDeviceReadIOps: resources.blkioDeviceReadIops.map(throttleDeviceToJson),
    BlkioDeviceWriteIOps: resources.blkioDeviceWriteIops.map(throttleDeviceToJson),
    CpuPeriod: resources.cpuPeriod,
    CpuQuota: resources.cpuQuota,
    CpuRealtimePeriod: resources.cpuRealtimePeriod,
    CpuRealtimeRuntime: resources.cpuRealtimeRuntime,
    CpusetCpus: resources.cpusetCpus,
    CpusetMems: resources.cpusetMems,
    Devices: resources.devices.map((device) => ({
      PathOnHost: device.pathOnHost,
      PathInContainer: device.pathInContainer,
      CgroupPermissions: device.cgroupPermissions,
    })),
    DeviceCgroupRules: listOrNull(resources.deviceCgroupRules),
    DeviceRequests: listOrNull(
      resources.deviceRequests.map((request) => ({
        Driver: request.driver,
        Count: request.count,
        DeviceIDs: listOrNull(request.deviceIds),
        Capabilities: listOrNull(request.capabilities.map(({ values }) => values)),
        Options: request.options,
      })),
    ),
    KernelMemory: unlessZero(resources.kernelMemory),
    KernelMemoryTCP: unlessZero(resources.kernelMemoryTcp),
    MemoryReservation: resources.memoryReservation,
    MemorySwap: resources.memorySwap,
    MemorySwappiness: resources.memorySwappiness ?? null,
    OomKillDisable: resources.oomKillDisable ?? null,
    PidsLimit: resources.pidsLimit ?? null,
    Ulimits: resources.ulimits.map(({ name, hard, soft }) => ({ Name: name, Hard: hard, Soft: soft })),
    CpuCount: resources.cpuCount,
    CpuPercent: resources.cpuPercent,
    IOMaximumIOps: resources.ioMaximumIops,
    IOMaximumBandwidth: resources.ioMaximumBandwidth,
  };
}

function throttleDevices(fields: JsonFields, name: string): ThrottleDevice[] {
  return fields
    .objects(name)
    .map((device) =>
      create(ThrottleDeviceSchema, { path: device.string("Path"), rate: device.uint64("Rate") }),
    );
}

function throttleDeviceToJson({ path, rate }: ThrottleDevice): Record<string, unknown> {
  return { Path: path, Rate: rate };
}
