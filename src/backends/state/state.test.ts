import assert from "node:assert/strict";
import { readdir, stat } from "node:fs/promises";
import path from "node:path";
import { afterEach, beforeEach, describe, it, mock } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Level } from "level";

import { ContainerStatus } from "../../gen/sockerless/backend/v1/container_pb.ts";
import { isErrorKind } from "../../common/errors.ts";
import { newId } from "../../common/ids.ts";
import { ManualClock } from "../../common/manual-clock.ts";
import { EventSchema } from "../../gen/sockerless/backend/v1/events_pb.ts";
import {
  ContainerRecordSchema,
  ImageRecordSchema,
  NetworkRecordSchema,
  VolumeRecordSchema,
} from "../../gen/sockerless/state/v1/state_pb.ts";
import { openDatabase, refusalIn } from "./database.ts";
import { eventKey } from "./keys.ts";
import { LargeCommits } from "./large-commits.ts";
import { type Change, openState, type State, type StateOptions } from "./state.ts";
import { Storage } from "./storage.ts";
import { scratchDirectory } from "../../../test/support/scratch.ts";

describe("the state of a backend", () => {
  let directory: string;
  let state: State | undefined;

  const open = async (options: Partial<StateOptions> = {}): Promise<State> => {
    state = await openState({ directory, clock: new ManualClock(), ...options });
    return state;
  };
  const reopen = async (options: Partial<StateOptions> = {}): Promise<State> => {
    await state?.close();
    return open(options);
  };

  beforeEach(async () => {
    directory = scratchDirectory();
    mock.method(LargeCommits.prototype, "pace", () => Promise.resolve());
  });
  afterEach(async () => {
    mock.restoreAll();
    await state?.close();
    state = undefined;
  });

  it("has the same records, events and instance ID after it was opened again", async () => {
    const first = await open();
    const { instanceId } = first;
    const id = newId();
    await first.commit((change) => {
      change.containers.put(create(ContainerRecordSchema, { id, name: "web" }));
      change.volumes.put(create(VolumeRecordSchema, { name: "data", driver: "local" }));
      change.event({ type: "container", action: "create", actorId: id, attributes: { name: "web" } });
    });
    const second = await reopen();
    assert.equal(second.instanceId, instanceId);
    assert.equal(second.containers.get(id)?.name, "web");
    assert.equal(second.volumes.get("data")?.driver, "local");
    assert.deepEqual(
      second.events.past().map((event) => [event.action, event.attributes["name"]]),
      [["create", "web"]],
    );
  });

  it("takes no more records of a kind than 64 MiB of them, and changes and removals of those", async () => {
    const first = await open();
    const labels = { large: "x".repeat(8 * 2 ** 20) };
    const volume = (name: string) => create(VolumeRecordSchema, { name, labels });
    const put = (name: string): Promise<void> =>
      first.commit((change) => {
        change.volumes.put(volume(name));
        change.event({ type: "volume", action: "create", actorId: name });
      });
    await Promise.all(Array.from({ length: 7 }, (_, at) => put(`v${at}`)));
    const refused = /^SockerlessError: the volumes may hold at most 64 MiB together: remove some first$/;
    await assert.rejects(put("more"), refused);
    assert.equal(first.volumes.has("more"), false);
    assert.equal(first.events.past().length, 7);
    await first.commit((change) => change.volumes.put({ ...volume("v0"), mountpoint: "/v0" }));
    const longer = { ...volume("v0"), status: { more: "x".repeat(25 * 2 ** 20) } };
    await assert.rejects(
      first.commit((change) => change.volumes.put(longer)),
      refused,
    );
    const filling = { ...volume("filling"), labels: { large: "x".repeat(8 * 2 ** 20 - 40_000) } };
    await first.commit((change) => change.volumes.put(filling));
    const grown = (length: number) => ({ ...volume("v1"), mountpoint: "x".repeat(length) });
    await first.commit((change) => change.volumes.put(grown(14 * 2 ** 20)));
    const most = grown(18 * 2 ** 20);
    await assert.rejects(
      first.commit((change) => change.volumes.put(most)),
      refused,
      "little by little",
    );
    await first.commit((change) => change.volumes.put(most), "under-way");
    await first.commit((change) => ["filling", "v1"].forEach(change.volumes.delete));
    await first.commit((change) => change.volumes.put(volume("v1")));
    await first.commit((change) =>
      change.networks.put(create(NetworkRecordSchema, { network: { id: newId() } })),
    );
    const second = await reopen();
    assert.deepEqual([second.volumes.size, second.volumes.get("v0")?.mountpoint], [7, "/v0"]);
    await second.commit((change) => change.volumes.put(volume("fact")), "happened");
    await second.commit((change) => ["fact", "v0", "v1"].forEach(change.volumes.delete));
    await second.commit((change) => change.volumes.put(volume("again")));
  });

  it("makes its directory for its owner's eyes only", async () => {
    const above = directory;
    directory = path.join(above, "made");
    await open();
    assert.equal((await stat(directory)).mode & 0o777, 0o700);
    assert.equal((await stat(path.join(directory, "db"))).mode & 0o777, 0o700);
    await state?.close();
    state = undefined;
    directory = above; // Removed whole.
  });

  it("shows a change to readers at once and keeps the last of several to one record", async () => {
    const first = await open();
    const id = `sha256:${newId()}`;
    const commits = Array.from({ length: 50 }, (_, size) =>
      first.commit((change) => change.images.put(create(ImageRecordSchema, { id, size: BigInt(size) }))),
    );
    assert.equal(first.images.get(id)?.size, 49n);
    await Promise.all(commits);
    const second = await reopen();
    assert.equal(second.images.get(id)?.size, 49n);
    await second.commit((change) => change.images.delete(id));
    assert.equal((await reopen()).images.size, 0);
  });

  const volumeAt = (name: string, mountpoint: string) => create(VolumeRecordSchema, { name, mountpoint });

  it("keeps of the changes to one record that wait for the disk only the last", async () => {
    const first = await open();
    const batch = mock.method(Level.prototype as { batch(operations: unknown): unknown }, "batch");
    const long = "x".repeat(100_000);
    const changes = Array.from({ length: 100 }, (_, n) =>
      first.commit(({ volumes }) => volumes.put(volumeAt("a", `${n} ${long}`))),
    );
    await Promise.all(changes);
    const written = batch.mock.calls.flatMap(({ arguments: [operations] }) => operations as unknown[]);
    assert.equal(written.length, 1);
    const second = await reopen();
    assert.equal(second.volumes.get("a")?.mountpoint, `99 ${long}`);
  });

  it("has what is kept of one record beside changes of it that the full disk refuses", async () => {
    const put = (mountpoint: string, added?: string) => (change: Change) => {
      change.volumes.put(volumeAt("a", mountpoint));
      if (added !== undefined) {
        change.volumes.put(volumeAt(added, ""));
      }
    };
    const first = await open();
    await first.commit(put("before"));
    mock.method(Level.prototype, "batch", () => Promise.reject(new Error("No space left on device")));
    // The first of these batches may have been applied, the others were not tried.
    for (const place of ["1", "2", "3"]) {
      const answers = await Promise.allSettled([
        first.commit(put(place), "under-way"),
        ...["b", "c"].map((added) => first.commit(put(`${place} refused`, added), "under-way")),
      ]);
      assert.deepEqual(
        answers.map(({ status }) => status),
        ["fulfilled", "rejected", "rejected"],
      );
      assert.equal(first.volumes.get("a")?.mountpoint, place);
    }
    mock.restoreAll();
    const second = await reopen();
    assert.equal(second.volumes.get("a")?.mountpoint, "3");
    assert.deepEqual([...second.volumes.keys()], ["a"]);
  });

  it("writes what is kept beside a refused change, though another change has come meanwhile", async () => {
    const first = await open();
    await first.commit(({ volumes }) => volumes.put(volumeAt("a", "before")));
    const writing = Promise.withResolvers<never>();
    mock.method(Level.prototype, "batch", () => writing.promise);
    const spare = mock.method(Storage.prototype, "writeToSpare");
    const kept = first.commit(({ volumes }) => volumes.put(volumeAt("a", "kept")), "under-way");
    const refused = first.commit(({ volumes }) => {
      volumes.put(volumeAt("a", "refused"));
      volumes.put(volumeAt("b", ""));
    });
    const answers = Promise.allSettled([kept, refused]);
    await nextTurn();
    const later = first.commit(({ volumes }) => volumes.put(volumeAt("a", "later")), "under-way");
    writing.reject(new Error("No space left on device"));
    assert.deepEqual(
      (await answers).map(({ status }) => status),
      ["fulfilled", "rejected"],
    );
    const [operations = []] = spare.mock.calls.map((call) => call.arguments[0]);
    const written = operations.map((each) =>
      each.type === "put" ? fromBinary(VolumeRecordSchema, each.value).mountpoint : each.type,
    );
    await later;
    assert.ok(!written.includes("refused") && written.includes("kept"), written.join());
  });

  it("has what was there before changes that the full disk refuses one after the other", async () => {
    const first = await open();
    await first.commit(({ volumes }) => volumes.put(volumeAt("a", "before")));
    const writing = Promise.withResolvers<never>();
    mock.method(Level.prototype, "batch", () => writing.promise);
    const change = (place: string): Promise<void> =>
      first.commit(({ volumes }) => {
        volumes.put(volumeAt("a", place));
        volumes.put(volumeAt(place, ""));
      });
    const places = (): unknown => [...(state?.volumes.values() ?? [])].map(({ mountpoint }) => mountpoint);
    const written = Promise.allSettled([change("1"), change("2")]);
    await nextTurn();
    const waiting = Promise.allSettled([change("3")]);
    writing.reject(new Error("No space left on device"));
    const answers = [...(await written), ...(await waiting)];
    assert.ok(answers.every(({ status }) => status === "rejected"));
    assert.deepEqual(places(), ["before"]);
    mock.restoreAll();
    await reopen();
    assert.deepEqual(places(), ["before"]);
  });

  it("has a record that was put again as it is, where the full disk refuses that and the change after it", async () => {
    const first = await open();
    const record = volumeAt("a", "before");
    await first.commit(({ volumes }) => volumes.put(record));
    const writing = Promise.withResolvers<never>();
    mock.method(Level.prototype, "batch", () => writing.promise);
    const change = (each: typeof record, other: string): Promise<void> =>
      first.commit(({ volumes }) => {
        volumes.put(each);
        volumes.put(volumeAt(other, "")); // Else it finds room that is kept for changes.
      });
    const written = Promise.allSettled([change(record, "1")]);
    await nextTurn();
    const waiting = Promise.allSettled([change(volumeAt("a", "after"), "2")]);
    writing.reject(new Error("No space left on device"));
    const answers = [...(await written), ...(await waiting)];
    mock.restoreAll();
    assert.ok(answers.every(({ status }) => status === "rejected"));
    assert.equal(first.volumes.get("a"), record);
  });

  it("writes changes that will be reported again with the next change, and at its end", async () => {
    const put = (id: string, size: number) => (change: Change) =>
      change.images.put(create(ImageRecordSchema, { id, size: BigInt(size) }));
    const database = path.join(directory, "db");
    const bytes = async (): Promise<number> =>
      (await Promise.all((await readdir(database)).map((name) => stat(path.join(database, name)))))
        .map(({ size }) => size)
        .reduce((sum, size) => sum + size);
    const first = await open();
    const before = await bytes();
    await first.commit(put("a", 1), "reported-again");
    assert.equal(first.images.get("a")?.size, 1n, "readers see it at once");
    assert.equal(await bytes(), before);
    await first.commit(put("b", 2));
    assert.notEqual(await bytes(), before);
    await first.commit(put("c", 3), "reported-again");
    const second = await reopen();
    assert.deepEqual(
      ["a", "b", "c"].map((id) => second.images.get(id)?.size),
      [1n, 2n, 3n],
    );
  });

  it("finds containers by other properties than the ID, now and after it was reopened", async () => {
    const first = await open();
    const record = {
      id: "a",
      name: "web",
      hostConfig: { networkMode: "container:b" },
      state: { status: ContainerStatus.RUNNING },
      links: [{ containerId: "b", alias: "db" }],
      endpoints: { front: { ipAddress: "172.18.0.2" }, back: {} },
      clientToken: "t",
    };
    await first.commit(({ containers }) => {
      containers.put(create(ContainerRecordSchema, { ...record, id: "z", name: "old" }));
      containers.put(create(ContainerRecordSchema, { id: "y", name: "other" }));
      containers.put(create(ContainerRecordSchema, record));
    });
    await first.commit(({ containers }) => containers.delete("z"));
    const found = ({ containers }: State, name: string, network: string): string[][] =>
      [
        containers.named(name),
        containers.addressedOn(network),
        containers.linkedTo("b"),
        containers.upAndJoined(),
        containers.madeWith("t"),
      ].map((records) => records.map(({ id, name }) => `${id} ${name}`));
    const everywhere = Array.from({ length: 5 }, () => ["a web"]);
    assert.deepEqual(found(first, "web", "front"), everywhere);
    const second = await reopen();
    assert.deepEqual(found(second, "web", "front"), everywhere);
    await second.commit(({ containers }) => {
      const endpoints = { back: { ipAddress: "172.19.0.2" } };
      containers.put(create(ContainerRecordSchema, { ...record, name: "www", endpoints }));
    });
    assert.deepEqual(found(second, "web", "front").slice(0, 2), [[], []]);
    assert.deepEqual(second.containers.madeWith(""), [], "a container without a token is nobody's answer");
    assert.deepEqual(
      found(second, "www", "back"),
      Array.from({ length: 5 }, () => ["a www"]),
    );
    await second.commit(({ containers }) => containers.delete("a"));
    assert.deepEqual(found(second, "www", "back"), [[], [], [], [], []]);
  });

  it("finds networks by name and by the source of their settings, now and after it was reopened", async () => {
    const first = await open();
    const record = (id: string, name: string, configFrom = "") =>
      create(NetworkRecordSchema, { network: { id, name, configFrom } });
    await first.commit(({ networks }) => {
      networks.put(record("a", "settings"));
      networks.put(record("b", "old", "settings"));
      networks.put(record("c", "gone", "settings"));
    });
    await first.commit(({ networks }) => {
      networks.put(record("b", "web", "settings"));
      networks.delete("c");
    });
    const found = ({ networks }: State): (string | undefined)[] => [
      ...["settings", "web", "old", "gone"].map((name) => networks.named(name)?.network?.id),
      ...networks.configuredFrom("settings").map(({ network }) => network?.id),
    ];
    assert.deepEqual(found(first), ["a", "b", undefined, undefined, "b"]);
    assert.deepEqual(found(await reopen()), ["a", "b", undefined, undefined, "b"]);
  });

  it("gives events unique, increasing times, even if one is reported late", async () => {
    const first = await open();
    await first.commit((change) => {
      change.event({ type: "container", action: "start", actorId: "a", timeUnixNs: 5_000n });
      change.event({ type: "container", action: "die", actorId: "a", timeUnixNs: 1_000n });
      change.event({ type: "container", action: "destroy", actorId: "a", timeUnixNs: 9_000n });
    });
    assert.deepEqual(
      first.events.past().map((event) => event.timeUnixNs),
      [5_000n, 5_001n, 9_000n],
    );
  });

  it("calls listeners with events in order, once they are durable", async () => {
    const first = await open();
    const heard: string[] = [];
    const stop = first.events.listen((event) => heard.push(event.action));
    const commits = ["create", "start", "die"].map((action) =>
      first.commit((change) => change.event({ type: "container", action, actorId: "a" })),
    );
    assert.deepEqual(heard, []);
    await Promise.all(commits);
    stop();
    await first.commit((change) => change.event({ type: "container", action: "destroy", actorId: "a" }));
    assert.deepEqual(heard, ["create", "start", "die"]);
  });

  it("forgets the oldest events beyond its limit, on disk too", async () => {
    const first = await open({ journalLimit: 8 });
    for (let n = 0; n < 20; n++) {
      await first.commit((change) => change.event({ type: "image", action: `pull ${n}`, actorId: "i" }));
    }
    const kept = first.events.past().map((event) => event.action);
    assert.ok(kept.length <= 8, `${kept.length} kept`);
    assert.equal(kept.at(-1), "pull 19");
    const second = await reopen({ journalLimit: 8 });
    assert.deepEqual(
      second.events.past().map((event) => event.action),
      kept,
    );
  });

  const storedEvents = async (): Promise<number> => {
    await state?.close();
    state = undefined;
    const database = await openDatabase(directory);
    const keys = await database.keys({ gt: "event!", lt: "event~" }).all();
    await database.close();
    return keys.length;
  };
  const pulled = { type: "image", action: "pull", actorId: "i" } as const;

  it("forgets on disk the events that refused changes have made it forget", async () => {
    const limit = 16;
    const first = await open({ journalLimit: limit });
    const large = create(VolumeRecordSchema, { name: "large", mountpoint: "x".repeat(65 * 2 ** 20) });
    await first.commit((change) => change.volumes.put(large), "happened");
    for (let n = 0; n < 100; n++) {
      await first.commit((change) => change.event(pulled));
      const refused = first.commit((change) => {
        change.event(pulled);
        change.volumes.put(create(VolumeRecordSchema, { name: "more" }));
      });
      await assert.rejects(refused, /at most 64 MiB/);
    }
    await first.commit((change) => change.event(pulled));
    const left = await storedEvents();
    assert.ok(left <= limit, `${left} left`);
  });

  it("forgets many events of a directory some at a time", async () => {
    const limit = 16;
    await open();
    await storedEvents();
    const database = await openDatabase(directory);
    for (let n = 0; n < 1_000; n++) {
      const older = create(EventSchema, { action: "older", timeUnixNs: BigInt(n) });
      await database.put(eventKey(older.timeUnixNs), toBinary(EventSchema, older));
    }
    await database.close();
    const first = await open({ journalLimit: limit });
    await first.commit((change) => change.event(pulled));
    const left = await storedEvents();
    assert.ok(left > 500, `${left} left`);
    const second = await open({ journalLimit: limit });
    for (let n = 0; n < limit; n++) {
      await second.commit((change) => change.event(pulled));
    }
    assert.ok((await storedEvents()) <= limit);
  });

  it("counts the attributes of its events besides their text", async () => {
    const state = await open();
    const attributes = Object.fromEntries(Array.from({ length: 50_000 }, (_, n) => [`${n}`, ""]));
    for (let n = 0; n < 12; n++) {
      await state.commit((change) =>
        change.event({ type: "container", action: "create", actorId: `${n}`, attributes }),
      );
    }
    assert.ok(state.events.past().length <= 10);
  });

  it("forgets the oldest events beyond 64 MiB, also of a directory that has more", async () => {
    const text = "x".repeat(2 ** 24);
    const events = (from: State): string[] => from.events.past().map(({ actorId }) => actorId);
    const first = await open();
    for (let n = 0; n < 9; n++) {
      await first.commit((change) => change.event({ type: "container", action: text, actorId: `${n}` }));
    }
    assert.deepEqual(events(first), ["6", "7", "8"]);
    await first.close();
    const database = await openDatabase(directory);
    for (let n = 0; n < 9; n++) {
      const older = create(EventSchema, { action: text, actorId: `older ${n}`, timeUnixNs: BigInt(n) });
      await database.put(eventKey(older.timeUnixNs), toBinary(EventSchema, older));
    }
    await database.close();
    const second = await reopen();
    assert.deepEqual(events(second), ["6", "7", "8"]);
    await second.commit((change) => change.event({ type: "image", action: "pull", actorId: "9" }));
    await second.close();
    const left = await openDatabase(directory);
    const keys = await left.keys({ gt: "event!", lt: "event~" }).all();
    await left.close();
    assert.equal(keys.length, 4);
  });

  it("refuses a directory that another backend uses", async () => {
    await open();
    const options = { directory, clock: new ManualClock(), lockWaitMs: 0 };
    await assert.rejects(openState(options), (error: Error) => {
      const users = "another sockerless backend, or by `sockerless check --repair`";
      assert.equal(error.message, `state directory ${directory} is in use by ${users}`);
      return isErrorKind(error, "conflict");
    });
  });

  it("waits for another backend that is about to end", async () => {
    const first = await open();
    const opening = open();
    // The one before has been refused once this one is.
    await assert.rejects(openDatabase(directory), (error) => isErrorKind(error, "conflict"));
    await first.close();
    assert.equal((await opening).instanceId, first.instanceId);
  });

  it("reports a record that cannot be read and leaves it", async () => {
    await open();
    await state?.close();
    state = undefined;
    const database = await openDatabase(directory);
    await database.put("container!beef", new Uint8Array([0xff, 0xff]));
    await database.close();
    await assert.rejects(open(), /is damaged: at or after container!beef: .*left as it is/);
    const again = await openDatabase(directory);
    assert.deepEqual([...((await again.get("container!beef")) ?? [])], [0xff, 0xff]);
    await again.close();
  });

  it("knows a disk that is full, a quota that is used up and a read-only file system from damage", () => {
    const opened = (words: string): Error =>
      new Error("Database failed to open", { cause: new Error(words) });
    assert.equal(refusalIn(opened("IO error: /s/db/000005.ldb: No space left on device")), "full");
    assert.equal(refusalIn(opened("IO error: /s/db/LOG: Disk quota exceeded")), "full");
    assert.equal(refusalIn(new Error("EDQUOT: disk quota exceeded, write")), "full");
    assert.equal(refusalIn(opened("IO error: /s/db/LOCK: Read-only file system")), "read-only");
    assert.equal(refusalIn(opened("Corruption: checksum mismatch")), undefined);
  });

  it("runs the migrations that a database has not seen, once", async () => {
    await open();
    const ran: string[] = [];
    const first = { description: "", plan: () => Promise.resolve([]) };
    const second = {
      description: "",
      plan: () => {
        ran.push("second");
        return Promise.resolve([]);
      },
    };
    await reopen({ migrations: [first, second] });
    await reopen({ migrations: [first, second] });
    assert.deepEqual(ran, ["second"]);
  });

  it("refuses a database that a newer version wrote", async () => {
    const step = { description: "", plan: () => Promise.resolve([]) };
    await open();
    await reopen({ migrations: [step, step, step] });
    await state?.close();
    state = undefined;
    await assert.rejects(
      open(),
      /was written by a newer sockerless, \d\S+ \(schema 3; this is \S+, which knows 1\), and is left as it is/,
    );
  });
});
