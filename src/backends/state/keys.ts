/**
 * The schema of a backend's database. This module alone knows the keys.
 *
 *     key                      value
 *     meta!schema              decimal number of the last migration that ran (migrations.ts)
 *     meta!instance            instance ID: 64 hex digits, made with the database, the `ID` of `docker info`
 *     meta!release             version of sockerless that ran it
 *     meta!spare               decimal number of the last record of the spare (spare.ts) that the database has
 *     container!<64 hex>       sockerless.state.v1.ContainerRecord
 *     exec!<64 hex>            sockerless.state.v1.ExecRecord
 *     image!sha256:<64 hex>    sockerless.state.v1.ImageRecord
 *     volume!<name>            sockerless.state.v1.VolumeRecord
 *     network!<64 hex>         sockerless.state.v1.NetworkRecord
 *     task!<64 hex>            sockerless.state.v1.TaskRecord, under the container's ID; cloud backends only
 *     definition!<family>      sockerless.state.v1.DefinitionRecord; the ECS backend only
 *     pool!<ID>                sockerless.state.v1.PoolRecord, which tells its IDs; cloud backends only
 *     event!<19 digits>        sockerless.backend.v1.Event; the digits are its time in nanoseconds, zero-padded,
 *                              so that the order of the keys is the order of the events
 *
 * Keys are UTF-8, values protobuf (`meta!` values: ASCII). There are no index keys: whatever is looked up by another
 * property (a container by name, execs by container) is indexed in memory when the database is opened.
 */

/** The tables; each name is the prefix of its keys, before the exclamation mark. */
export type TableName =
  | "container"
  | "exec"
  | "image"
  | "volume"
  | "network"
  | "task"
  | "definition"
  | "pool"
  | "event";

/** Key of the last migration's number. */
export const schemaKey = "meta!schema";

/** Key of the version of sockerless that ran the last migration. */
export const releaseKey = "meta!release";

/** Key of the instance ID. */
export const instanceKey = "meta!instance";

/** Key of the number of the spare's last record that is in the database. */
export const spareKey = "meta!spare";

/** The key of a record, by ID, or by name for a volume or definition. */
export function recordKey(table: TableName, id: string): string {
  return `${table}!${id}`;
}

/** The key of the event at a time. */
export function eventKey(timeUnixNs: bigint): string {
  return recordKey("event", timeUnixNs.toString().padStart(19, "0"));
}

/** Whether a key is an {@link eventKey}. */
export function isEventKey(key: string): boolean {
  return key.startsWith(recordKey("event", ""));
}

/** The range of all keys of a table. */
export function tableRange(table: TableName): { readonly gt: string; readonly lt: string } {
  return { gt: `${table}!`, lt: `${table}"` };
}

/** The record's ID in a key from {@link recordKey}. */
export function idOfKey(key: string): string {
  return key.slice(key.indexOf("!") + 1);
}
