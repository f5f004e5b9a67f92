/** `Mounts` of a create request and mount points of a container, between Docker's JSON and the backend's messages. */
import { create } from "@bufbuild/protobuf";

import {
  BindOptionsSchema,
  ImageOptionsSchema,
  type Mount,
  MountSchema,
  TmpfsOptionsSchema,
  VolumeOptionsSchema,
} from "../../gen/sockerless/backend/v1/config_pb.ts";
import type { MountPoint } from "../../gen/sockerless/backend/v1/container_pb.ts";
import type { JsonFields } from "./json-fields.ts";
import { unlessEmpty, unlessNoKeys, unlessZero } from "./json-values.ts";

/** Reads one element of `HostConfig.Mounts`. */
export function mountFromJson(fields: JsonFields): Mount {
  const mount = create(MountSchema, {
    type: fields.string("Type"),
    source: fields.string("Source"),
    target: fields.string("Target"),
    readOnly: fields.boolean("ReadOnly"),
    consistency: fields.string("Consistency"),
  });
  const bind = fields.object("BindOptions");
  if (bind !== undefined) {
    mount.bindOptions = create(BindOptionsSchema, {
      propagation: bind.string("Propagation"),
      nonRecursive: bind.boolean("NonRecursive"),
      createMountpoint: bind.boolean("CreateMountpoint"),
      readOnlyNonRecursive: bind.boolean("ReadOnlyNonRecursive"),
      readOnlyForceRecursive: bind.boolean("ReadOnlyForceRecursive"),
    });
  }
  const volume = fields.object("VolumeOptions");
  if (volume !== undefined) {
    const driver = volume.object("DriverConfig");
    mount.volumeOptions = create(VolumeOptionsSchema, {
      noCopy: volume.boolean("NoCopy"),
      labels: volume.stringMap("Labels"),
      subpath: volume.string("Subpath"),
      ...(driver === undefined
        ? {}
        : { driverConfig: { name: driver.string("Name"), options: driver.stringMap("Options") } }),
    });
  }
  const tmpfs = fields.object("TmpfsOptions");
  if (tmpfs !== undefined) {
    mount.tmpfsOptions = create(TmpfsOptionsSchema, {
      sizeBytes: tmpfs.int64("SizeBytes"),
      mode: tmpfs.uint32("Mode"),
      options: tmpfs.stringLists("Options").map((values) => ({ values })),
    });
  }
  const image = fields.object("ImageOptions");
  if (image !== undefined) {
    mount.imageOptions = create(ImageOptionsSchema, { subpath: image.string("Subpath") });
  }
  return mount;
}

/** One element of `HostConfig.Mounts` of an inspect. */
export function mountToJson(mount: Mount): Record<string, unknown> {
  return {
    Type: unlessEmpty(mount.type),
    Source: unlessEmpty(mount.source),
    Target: unlessEmpty(mount.target),
    ReadOnly: mount.readOnly || undefined,
    Consistency: unlessEmpty(mount.consistency),
    BindOptions: bindOptionsToJson(mount),
    VolumeOptions: volumeOptionsToJson(mount),
    ImageOptions:
      mount.imageOptions === undefined ? undefined : { Subpath: unlessEmpty(mount.imageOptions.subpath) },
    TmpfsOptions:
      mount.tmpfsOptions === undefined
        ? undefined
        : {
            SizeBytes: unlessZero(mount.tmpfsOptions.sizeBytes),
            Mode: unlessZero(mount.tmpfsOptions.mode),
            Options:
              mount.tmpfsOptions.options.length === 0
                ? undefined
                : mount.tmpfsOptions.options.map(({ values }) => values),
          },
  };
}

/** One element of `Mounts` of an inspect or a list. */
export function mountPointToJson(point: MountPoint): Record<string, unknown> {
  return {
    Type: unlessEmpty(point.type),
    Name: unlessEmpty(point.name),
    Source: point.source,
    Destination: point.destination,
    Driver: unlessEmpty(point.driver),
    Mode: point.mode,
    RW: point.rw,
    Propagation: point.propagation,
  };
}

function bindOptionsToJson({ bindOptions }: Mount): Record<string, unknown> | undefined {
  if (bindOptions === undefined) {
    return undefined;
  }
  return {
    Propagation: unlessEmpty(bindOptions.propagation),
    NonRecursive: bindOptions.nonRecursive || undefined,
    CreateMountpoint: bindOptions.createMountpoint || undefined,
    ReadOnlyNonRecursive: bindOptions.readOnlyNonRecursive || undefined,
    ReadOnlyForceRecursive: bindOptions.readOnlyForceRecursive || undefined,
  };
}

function volumeOptionsToJson({ volumeOptions }: Mount): Record<string, unknown> | undefined {
  if (volumeOptions === undefined) {
    return undefined;
  }
  const driver = volumeOptions.driverConfig;
  return {
    NoCopy: volumeOptions.noCopy || undefined,
    Labels: unlessNoKeys(volumeOptions.labels),
    Subpath: unlessEmpty(volumeOptions.subpath),
    DriverConfig:
      driver === undefined
        ? undefined
        : { Name: unlessEmpty(driver.name), Options: unlessNoKeys(driver.options) },
  };
}
