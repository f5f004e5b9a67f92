import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create, type MessageInitShape } from "@bufbuild/protobuf";

import { messageOf, notFound } from "../../../../../common/errors.ts";
import {
  ContainerConfigSchema,
  HostConfigSchema,
  MountSchema,
} from "../../../../../gen/sockerless/backend/v1/config_pb.ts";
import {
  ContainerRecordSchema,
  type VolumeRecord,
  VolumeRecordSchema,
} from "../../../../../gen/sockerless/state/v1/state_pb.ts";
import type { State } from "../../../../state/state.ts";
import type { Table } from "../../../../state/table.ts";
import { parseBind, parseVolumesFrom } from "./parse-bind.ts";
import { planMounts } from "./plan-mounts.ts";
import { resolveMounts } from "./resolve-mounts.ts";
import { validateMount } from "./validate-mount.ts";

const refusal = (task: () => unknown): string => {
  try {
    task();
  } catch (error) {
    return messageOf(error);
  }
  return "";
};

describe("an entry of Binds", () => {
  const parsed = (text: string) => {
    const { mount, mode } = parseBind(text, "");
    return [mount.type, mount.source, mount.target, mount.readOnly ? "ro" : "rw", mode];
  };

  it("is a bind of an absolute path, a volume by name, or an anonymous volume", () => {
    assert.deepEqual(parsed("/src:/dst"), ["bind", "/src", "/dst", "rw", ""]);
    assert.deepEqual(parsed("name:/dst:ro,z"), ["volume", "name", "/dst", "ro", "ro,z"]);
    assert.deepEqual(parsed("/dst"), ["volume", "", "/dst", "rw", ""]);
    assert.equal(parseBind("/a:/b:rslave", "").mount.bindOptions?.propagation, "rslave");
    assert.equal(parseBind("v:/b:nocopy", "").mount.volumeOptions?.noCopy, true);
  });

  it("is refused in Docker's words where it means nothing", () => {
    const refusals: Readonly<Record<string, string>> = {
      ":/dst": "invalid volume specification: ':/dst'",
      "/dst:ro": "invalid volume specification: '/dst:ro'",
      "/a:/b:rw:x": "invalid volume specification: '/a:/b:rw:x'",
      "/a:/b:rw,ro": "invalid mode: rw,ro",
      "/a:/b:bogus": "invalid mode: bogus",
      [`${"/a".repeat(7_000)}:/b`]: "invalid volume specification: it has 14003 characters",
      "/a:/":
        "invalid volume specification: '/a:/': invalid mount config for type \"bind\": " +
        "invalid specification: destination can't be '/'",
      "/a:rel":
        "invalid volume specification: '/a:rel': invalid mount config for type \"bind\": " +
        "invalid mount path: 'rel' mount path must be absolute",
    };
    for (const [text, message] of Object.entries(refusals)) {
      assert.equal(
        refusal(() => parseBind(text, "")),
        message,
      );
    }
    assert.equal(
      refusal(() => parseVolumesFrom("c:rslave")),
      "invalid mode: rslave",
    );
    assert.deepEqual(parseVolumesFrom("c:ro"), { container: "c", readOnly: true });
  });
});

describe("an entry of Mounts", () => {
  it("is refused in Docker's words where it contradicts itself", () => {
    const refusals: readonly (readonly [MessageInitShape<typeof MountSchema>, string])[] = [
      [{ type: "bind", source: "/a" }, "field Target must not be empty"],
      [{ type: "bind", target: "/t" }, "field Source must not be empty"],
      [{ type: "tmpfs", source: "x", target: "/t" }, "field Source must not be specified"],
      [
        { type: "volume", target: "/t", readOnly: true },
        "must not set ReadOnly mode when using anonymous volumes",
      ],
      [
        { type: "volume", source: "v", target: "/t", volumeOptions: { subpath: "../x" } },
        "subpath must be a relative path within the volume",
      ],
      [{ type: "volume", target: "/t", bindOptions: {} }, "field BindOptions must not be specified"],
      [
        { type: "bind", source: "/a", target: "/t", bindOptions: { propagation: "x" } },
        "invalid propagation mode: x",
      ],
      [{ type: "cube", target: "/t" }, "mount type unknown"],
      [{ type: "bind", source: "/a".repeat(2_048), target: "/t" }, "invalid mount path: file name too long"],
    ];
    for (const [mount, fault] of refusals) {
      assert.equal(
        refusal(() => validateMount(create(MountSchema, mount))),
        `invalid mount config for type "${mount.type}": ${fault}`,
      );
    }
  });
});

describe("the mounts of a container", () => {
  const plan = (
    host: MessageInitShape<typeof HostConfigSchema>,
    volumes: string[] = [],
    other = create(ContainerRecordSchema),
  ) =>
    planMounts(create(ContainerConfigSchema, { volumes }), create(HostConfigSchema, host), (reference) => {
      if (reference === "other") {
        return other;
      }
      throw notFound(`No such container: ${reference}`);
    });

  it("are refused where two want one destination", () => {
    assert.equal(
      refusal(() => plan({ binds: ["/a:/x", "/b:/x/"] })),
      "Duplicate mount point: /x",
    );
    assert.equal(
      refusal(() => plan({ binds: ["/a:/x"], tmpfs: { "/x": "" } })),
      "Duplicate mount point: /x",
    );
  });

  it("are refused beneath more than 255 names", () => {
    const deepest = "/a".repeat(255);
    plan({ binds: [`/h:${deepest}/`] });
    plan({ tmpfs: { [`${deepest}/`]: "" } });
    const deep = `${deepest}/b`;
    for (const refused of [
      () => plan({ binds: [`/h:${deep}`] }),
      () => plan({ mounts: [{ type: "tmpfs", target: deep }] }),
      () => plan({ tmpfs: { [deep]: "" } }),
      () => plan({}, [deep]),
    ]) {
      assert.equal(refusal(refused), "invalid mount config: the path of a mount point has at most 255 names");
    }
  });

  it("take the place of the image's volumes, and of another container's", () => {
    const other = create(ContainerRecordSchema, {
      mounts: [
        { type: "volume", name: "theirs", destination: "/x", rw: true },
        { type: "volume", name: "shared", destination: "/s", rw: true },
      ],
    });
    const planned = plan(
      { binds: ["/a:/x"], volumesFrom: ["other:ro"], tmpfs: { "/t": "" } },
      ["/x", "/t", "/y"],
      other,
    );
    assert.deepEqual(
      planned.map(({ point, volume }) => [point.destination, point.type, volume?.name, point.rw]),
      [
        ["/x", "bind", undefined, true],
        ["/s", "volume", "shared", false],
        ["/y", "volume", "", true],
      ],
    );
  });

  it("that are taken leave out what is mounted beneath them, as where they are taken from", () => {
    const bind = { type: "bind", source: "/h", target: "/d", bindOptions: { nonRecursive: true } };
    const point = { type: "bind", source: "/h", destination: "/d", rw: true };
    const donor = create(ContainerRecordSchema, { hostConfig: { mounts: [bind] }, mounts: [point] });
    const [taken] = plan({ volumesFrom: ["other"] }, [], donor);
    assert.equal(taken?.takenNonRecursive, true);
    const taker = create(ContainerRecordSchema, { mounts: [point], takenNonRecursive: ["/d"] });
    const [next] = plan({ volumesFrom: ["other"] }, [], taker);
    assert.equal(next?.takenNonRecursive, true);
    const none = {
      containers: new Map() as unknown as State["containers"],
      volumes: new Map() as unknown as Table<VolumeRecord>,
      images: new Map() as unknown as State["images"],
    };
    for (const record of [donor, taker]) {
      assert.deepEqual(
        resolveMounts(record, none).map((mount) => mount.nonRecursive),
        [true],
      );
    }
  });

  it("reach the driver below the root and sorted by depth, with what the user said of each", () => {
    const records = new Map([
      ["v", create(VolumeRecordSchema, { name: "v" })],
      ["w", create(VolumeRecordSchema, { name: "w" })],
    ]);
    const resolved = resolveMounts(
      create(ContainerRecordSchema, {
        hostConfig: {
          binds: ["/h:/deep/er/bind:ro", "v:/vol:nocopy"],
          mounts: [
            { type: "bind", source: "/m", target: "/mount" },
            { type: "volume", source: "w", target: "/part", volumeOptions: { subpath: "./a//b/" } },
          ],
          tmpfs: { "/tmpfs": "size=1m,ro" },
        },
        mounts: [
          { type: "bind", source: "/h", destination: "/deep/er/bind", rw: false, propagation: "rprivate" },
          { type: "volume", name: "v", destination: "/vol", rw: true },
          { type: "bind", source: "/m", destination: "/mount", rw: true },
          { type: "volume", name: "w", destination: "/part", rw: true },
          { type: "volume", name: "v", destination: "relative/data", rw: true },
        ],
      }),
      {
        containers: new Map() as unknown as State["containers"],
        volumes: records as unknown as Table<VolumeRecord>,
        images: new Map() as unknown as State["images"],
      },
    );
    assert.deepEqual(
      resolved.map((mount) => [
        mount.destination,
        mount.readOnly,
        mount.copyUp,
        mount.createSource,
        mount.subpath,
      ]),
      [
        ["/vol", false, false, undefined, undefined],
        ["/mount", false, undefined, false, undefined],
        ["/part", false, true, undefined, "a/b"],
        ["/tmpfs", true, undefined, undefined, undefined],
        ["/relative/data", false, true, undefined, undefined],
        ["/deep/er/bind", true, undefined, true, undefined],
      ],
    );
  });
});
