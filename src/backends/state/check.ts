/** Finds damage in the database of a backend that does not run, and mends it. */
import { fromBinary } from "@bufbuild/protobuf";
import type { GenMessage } from "@bufbuild/protobuf/codegenv2";
import type { Message } from "@bufbuild/protobuf";

import { errnoOf } from "../../common/errors.ts";
import { EventSchema } from "../../gen/sockerless/backend/v1/events_pb.ts";
import {
  ContainerRecordSchema,
  DefinitionRecordSchema,
  ExecRecordSchema,
  ImageRecordSchema,
  NetworkRecordSchema,
  TaskRecordSchema,
  VolumeRecordSchema,
} from "../../gen/sockerless/state/v1/state_pb.ts";
import { findLosses, type Loss } from "./damage.ts";
import { locationOf } from "./database.ts";
import { openView } from "./database-view.ts";
import { type TableName, tableRange } from "./keys.ts";
import { copyDatabase } from "./set-aside.ts";
import { Storage } from "./storage.ts";

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
  event: EventSchema,
};

/**
 * Checks the database of a state directory.
 *
 * @param repair mends it, after a copy of all of it to `set-aside`
 * @throws conflict if a backend has it open; system if it cannot be read, copied or written
 */
export async function checkDatabase(stateDirectory: string, repair: boolean): Promise<readonly Finding[]> {
  const losses = await findLosses(locationOf(stateDirectory));
  if (repair && losses.length > 0) {
    const mended = await Storage.open({ directory: stateDirectory });
    await mended.close();
  }
  const unreadable = await unreadableRecords(stateDirectory);
  if (repair && unreadable.length > 0) {
    await removeRecords(stateDirectory, unreadable);
  }
  return [
    ...losses.map((loss) => lossInWords(loss, repair)),
    ...unreadable.map((key) => ({
      what: key,
      fault: "is a record that cannot be read",
      outcome: repair
        ? "removed; the copy in set-aside has it"
        : "the daemon does not start with it: --repair removes it, after a copy",
    })),
  ];
}

function lossInWords({ file, kind, offset }: Loss, repaired: boolean): Finding {
  const fault = {
    torn: `ends in half a record at byte ${offset}, as after a crash`,
    damaged: `is damaged at byte ${offset}`,
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

/** Keys of the records that cannot be read; reads a view, so that nothing is changed. */
async function unreadableRecords(stateDirectory: string): Promise<readonly string[]> {
  const view = await openView(stateDirectory).catch((error: unknown) => {
    if (errnoOf(error) === "ENOENT") {
      return undefined; // There is no state yet.
    }
    throw error;
  });
  if (view === undefined) {
    return [];
  }
  try {
    const unreadable: string[] = [];
    for (const [table, schema] of Object.entries(schemas) as [TableName, GenMessage<Message>][]) {
      for await (const [key, value] of view.database.iterator(tableRange(table))) {
        if (!isReadable(schema, value)) {
          unreadable.push(key);
        }
      }
    }
    return unreadable;
  } finally {
    await view.database.close();
    await view.forgetFiles();
  }
}

function isReadable(schema: GenMessage<Message>, value: Uint8Array): boolean {
  try {
    fromBinary(schema, value);
    return true;
  } catch {
    return false;
  }
}

async function removeRecords(stateDirectory: string, keys: readonly string[]): Promise<void> {
  await copyDatabase(
    stateDirectory,
    keys.map((key) => ({ file: key, kind: "damaged", offset: 0 })),
  );
  const storage = await Storage.open({ directory: stateDirectory });
  try {
    if (!(await storage.write(keys.map((key) => ({ type: "del", key }))))) {
      throw storage.failure ?? new Error("the records cannot be removed");
    }
  } finally {
    await storage.close();
  }
}
