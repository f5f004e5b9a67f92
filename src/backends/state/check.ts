/** Finds damage in the database of a backend that does not run, and mends it. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

import { fromBinary, toBinary } from "@bufbuild/protobuf";
import type { GenMessage } from "@bufbuild/protobuf/codegenv2";
import type { Message } from "@bufbuild/protobuf";

import { SockerlessError, unlessMissing } from "../../common/errors.ts";
import { EventSchema } from "../../gen/sockerless/backend/v1/events_pb.ts";
import {
  type ContainerRecord,
  ContainerRecordSchema,
  DefinitionRecordSchema,
  PoolRecordSchema,
  ExecRecordSchema,
  type ImageRecord,
  ImageRecordSchema,
  type NetworkRecord,
  NetworkRecordSchema,
  TaskRecordSchema,
  VolumeRecordSchema,
} from "../../gen/sockerless/state/v1/state_pb.ts";
import { wrongAddresses } from "./check-addresses.ts";
import { findLosses, type Loss, needsRepair, reportedLoss } from "./damage.ts";
import { isCorruption, locationOf } from "./database.ts";
import { openView } from "./database-view.ts";
import { recordKey, type TableName, tableRange } from "./keys.ts";
import { copyDatabase, copyFiles } from "./set-aside.ts";
import { Storage } from "./storage.ts";
import { refuseNewer } from "./upgrade.ts";

/** Damage, in words for users. */
export interface Finding {
  /** Path in the state directory, or the key of a record. */
  readonly what: string;
  readonly fault: string;
  /** The remedy that was applied, or the consequence as long as none is. */
  readonly outcome: string;
}

const schemas: Readonly<Record<TableName, GenMessage<Message>>> = {
  container: ContainerRecordSchema,
  exec: ExecRecordSchema,
  image: ImageRecordSchema,
  volume: VolumeRecordSchema,
  network: NetworkRecordSchema,
  task: TaskRecordSchema,
  definition: DefinitionRecordSchema,
  pool: PoolRecordSchema,
  event: EventSchema,
};

/** Findings in a database, and the images of which it has records. */
export interface CheckedDatabase {
  readonly findings: readonly Finding[];
  readonly images: readonly ImageRecord[];
}

/**
 * Checks the database of a state directory.
 *
 * @param repair mends it, after a copy of all of it to `set-aside`
 * @throws conflict if a backend has it open; system if a newer version wrote it, or it cannot be read, copied or written
 */
export async function checkDatabase(stateDirectory: string, repair: boolean): Promise<CheckedDatabase> {
  const losses = await lossesIn(stateDirectory);
  if (repair && losses.length > 0) {
    const mended = await Storage.open({ directory: stateDirectory });
    await mended.close();
  }
  const checked =
    !repair && losses.some(needsRepair)
      ? await inMendedCopy(stateDirectory, (copy) => checkRecords(copy, false))
      : await checkRecords(stateDirectory, repair);
  const findings = [...losses.map((loss) => lossInWords(loss, repair)), ...checked.findings];
  return { ...checked, findings };
}

/**
 * Keeps backends out of a state directory until disposed, where one has opened its database before.
 *
 * @throws conflict if a backend has it open; as {@link openView}
 */
export async function holdDatabase(stateDirectory: string): Promise<AsyncDisposable> {
  const view = await openView(stateDirectory).catch(unlessMissing);
  await view?.forgetFiles();
  return { [Symbol.asyncDispose]: async () => await view?.database.close() };
}

/** The losses in the files, and what LevelDB says of them. */
async function lossesIn(stateDirectory: string): Promise<readonly Loss[]> {
  const losses = await findLosses(locationOf(stateDirectory));
  try {
    const view = await openView(stateDirectory).catch(unlessMissing);
    await view?.database.close();
    await view?.forgetFiles();
  } catch (error) {
    if (losses.some(needsRepair) && !(error instanceof SockerlessError && error.kind === "conflict")) {
      return losses;
    }
    if (!isCorruption(error)) {
      throw error;
    }
    const cause = error instanceof Error ? error.cause : error;
    // A manifest without its end may be one without what matters.
    const [torn] = losses.filter(({ file }) => file.startsWith("MANIFEST"));
    return [
      ...losses.filter((loss) => loss !== torn),
      torn ? { ...torn, kind: "damaged" } : reportedLoss(cause),
    ];
  }
  return losses;
}

/** Hands over a state directory with a copy of the database that was made anew of what is whole. */
async function inMendedCopy<T>(stateDirectory: string, use: (directory: string) => Promise<T>): Promise<T> {
  const copy = await mkdtemp(path.join(tmpdir(), "sockerless-mended-"));
  try {
    await copyFiles(locationOf(stateDirectory), locationOf(copy));
    const mended = await Storage.open({ directory: copy });
    await mended.close();
    return await use(copy);
  } finally {
    await rm(copy, { recursive: true, force: true });
  }
}

async function checkRecords(stateDirectory: string, repair: boolean): Promise<CheckedDatabase> {
  const { unreadable, images, containers, networks } = await readRecords(stateDirectory);
  const wrong = wrongAddresses(containers, networks);
  const mended = wrong.flatMap(({ mended }) => mended ?? []);
  if (repair && unreadable.length + mended.length > 0) {
    await writeRecords(stateDirectory, unreadable, mended);
  }
  const findings = [
    ...unreadable.map((key) => ({
      what: key,
      fault: "is a record that cannot be read",
      outcome: repair
        ? "removed; the copy in set-aside has it"
        : "the daemon does not start with it: --repair removes it, after a copy",
    })),
    ...wrong.map(({ finding, mended }) => ({ ...finding, outcome: outcomeOfAddress(mended, repair) })),
  ];
  return { findings, images };
}

function outcomeOfAddress(mended: ContainerRecord | undefined, repair: boolean): string {
  if (mended === undefined) {
    return "left: it runs; its next start takes another";
  }
  return repair
    ? "taken off it, and its next start takes another; the copy in set-aside has it"
    : "its next start takes another; --repair takes it off";
}

function lossInWords({ file, kind, offset }: Loss, repaired: boolean): Finding {
  const fault = {
    torn: `ends in half a record at byte ${offset}, as after a crash`,
    damaged: `is damaged at byte ${offset}`,
    unreadable: `cannot be read at byte ${offset}`,
    missing: "is missing",
  }[kind];
  return {
    what: `db/${file}`,
    fault,
    outcome: repaired
      ? "made anew of what is whole; the copy in set-aside has all of it"
      : "the next start, or --repair, makes the database anew of what is whole, after a copy",
  };
}

/** Records by their tables, and the keys of those that cannot be read. */
interface Records {
  readonly unreadable: readonly string[];
  readonly images: readonly ImageRecord[];
  readonly containers: readonly ContainerRecord[];
  readonly networks: readonly NetworkRecord[];
}

/** Reads a view, so that nothing is changed. */
async function readRecords(stateDirectory: string): Promise<Records> {
  const unreadable: string[] = [];
  const read = new Map<TableName, Message[]>();
  const of = <T extends Message>(table: TableName): readonly T[] => (read.get(table) ?? []) as T[];
  const view = await openView(stateDirectory).catch(unlessMissing);
  try {
    if (view !== undefined) {
      await refuseNewer(view.database, stateDirectory);
    }
    for (const [table, schema] of Object.entries(schemas) as [TableName, GenMessage<Message>][]) {
      const records: Message[] = [];
      read.set(table, records);
      for await (const [key, value] of view?.database.iterator(tableRange(table)) ?? []) {
        const record = readable(schema, value);
        if (record === undefined) {
          unreadable.push(key);
        } else if (kept.includes(table)) {
          records.push(record);
        }
      }
    }
  } finally {
    await view?.database.close();
    await view?.forgetFiles();
  }
  return { unreadable, images: of("image"), containers: of("container"), networks: of("network") };
}

/** Tables whose records are compared with one another, or with files. */
const kept: readonly TableName[] = ["image", "container", "network"];

function readable(schema: GenMessage<Message>, value: Uint8Array): Message | undefined {
  try {
    return fromBinary(schema, value);
  } catch {
    return undefined;
  }
}

async function writeRecords(
  stateDirectory: string,
  removed: readonly string[],
  mended: readonly ContainerRecord[],
): Promise<void> {
  const puts = mended.map((record) => ({
    type: "put" as const,
    key: recordKey("container", record.id),
    value: toBinary(ContainerRecordSchema, record),
  }));
  const changed = [...removed, ...puts.map(({ key }) => key)];
  await copyDatabase(
    stateDirectory,
    changed.map((key) => ({ file: key, kind: "damaged", offset: 0 })),
  );
  const storage = await Storage.open({ directory: stateDirectory });
  try {
    const deletions = removed.map((key) => ({ type: "del" as const, key }));
    if ((await storage.write([...deletions, ...puts])) !== "written") {
      throw storage.failure ?? new Error("the records cannot be written");
    }
  } finally {
    await storage.close();
  }
}
