/** Microsoft.Storage: accounts with their keys, and the shares of Azure Files, which are directories on this machine. */
import { randomBytes, randomUUID } from "node:crypto";
import { chmodSync, mkdirSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";

import type { Context } from "../../context.ts";
import { isSame, resourceId } from "../../context.ts";
import { ArmFault, notSimulated, resourceNotFound } from "../../wire/fault.ts";
import {
  type ArmAnswer,
  type ArmCall,
  type ArmOperation,
  inGroup,
  type ResourceProvider,
} from "../../wire/provider.ts";
import type { WireAnswer, WireRequest } from "../../../common/wire/http-endpoint.ts";
import { serveProperties } from "./file-service.ts";
import { fileShare, type ShareBody } from "./shares-model.ts";

/** A share. */
export interface Share {
  readonly name: string;
  readonly account: StorageAccount;
  /** Path of its files on this machine. */
  readonly directory: string;
  properties: NonNullable<ShareBody["properties"]>;
  etag: string;
  changedAt: Date;
}

/** A storage account. */
export interface StorageAccount {
  readonly name: string;
  /** NFS needs `FileStorage`. */
  readonly kind: "StorageV2" | "FileStorage";
  keys: readonly [string, string];
  /** Whether it takes secure transfer alone, by which no NFS share is mounted. */
  isHttpsOnly?: boolean;
  readonly shares: Map<string, Share>;
}

const accountType = "Microsoft.Storage/storageAccounts";
const shareName = /^(?!.*--)[a-z0-9][-a-z0-9]{1,61}[a-z0-9]$/;
const metadataName = /^[A-Za-z_][A-Za-z0-9_]*$/;
const defaultQuotaGib = 5120;
const pageSize = 1000;

export class Storage {
  readonly provider: ResourceProvider;
  readonly #context: Context;
  readonly #accounts: StorageAccount[] = [];
  readonly #onDeleted: (directory: string) => Promise<void>;

  /** @param onDeleted called before a share's files are removed */
  constructor(context: Context, onDeleted: (directory: string) => Promise<void>) {
    this.#context = context;
    this.#onDeleted = onDeleted;
    this.provider = {
      name: "storage",
      namespace: "Microsoft.Storage",
      apiVersions: ["2025-08-01", "2025-06-01", "2025-01-01", "2024-01-01", "2023-05-01"],
      operations: this.#operations(),
    };
  }

  /** Makes an account, as an administrator does. */
  add(name: string, kind: StorageAccount["kind"] = "StorageV2"): StorageAccount {
    const key = (): string => randomBytes(64).toString("base64");
    const account: StorageAccount = {
      name,
      kind,
      keys: [key(), key()],
      shares: new Map(),
    };
    this.#accounts.push(account);
    return account;
  }

  /** An account by its name. */
  account(name: string): StorageAccount | undefined {
    return this.#accounts.find((each) => isSame(each.name, name));
  }

  /** Changes an account's keys, as an administrator does: what was mounted by the old ones stays. */
  rotateKeys(name: string): void {
    const account = this.account(name);
    if (account !== undefined) {
      account.keys = [randomBytes(64).toString("base64"), account.keys[0]];
    }
  }

  /**
   * Answers a request to the file service of an account, `/files/ACCOUNT/`, of which only its properties are simulated; undefined:
   * it is none.
   */
  serveFiles(request: WireRequest): WireAnswer | undefined {
    const [, name = ""] = /^\/files\/([^/]+)\/$/.exec(request.url.pathname) ?? [];
    const account = this.account(name);
    if (account === undefined) {
      return undefined;
    }
    return serveProperties(account, request);
  }

  #operations(): ArmOperation[] {
    const accounts = inGroup("Microsoft.Storage", "/storageAccounts");
    const account = `${accounts}/{accountName}`;
    const service = `${account}/fileServices`;
    const share = `${service}/default/shares/{shareName}`;
    const right = (what: string): string => `${accountType}/${what}`;
    const body = { schema: fileShare, required: true };
    return [
      {
        name: "StorageAccounts_GetProperties",
        method: "GET",
        path: account,
        action: right("read"),
        query: ["$expand"],
        run: (call) => ({ status: 200, body: this.#showAccount(this.#find(call)) }),
      },
      {
        name: "StorageAccounts_ListKeys",
        method: "POST",
        path: `${account}/listKeys`,
        action: right("listkeys/action"),
        query: ["$expand"],
        run: (call) => {
          const keys = this.#find(call).keys.map((value, index) => ({
            keyName: `key${index + 1}`,
            value,
            permissions: "FULL",
          }));
          return { status: 200, body: { keys } };
        },
      },
      {
        name: "FileShares_List",
        method: "GET",
        path: `${service}/default/shares`,
        action: right("fileServices/shares/read"),
        query: ["$maxpagesize", "$filter", "$expand", "$skipToken"],
        run: (call) => this.#list(call),
      },
      {
        name: "FileShares_Get",
        method: "GET",
        path: share,
        action: right("fileServices/shares/read"),
        query: ["$expand"],
        run: (call) => ({ status: 200, body: this.#show(this.#findShare(call)) }),
      },
      {
        name: "FileShares_Create",
        method: "PUT",
        path: share,
        action: right("fileServices/shares/write"),
        query: ["$expand"],
        body,
        run: (call) => this.#create(call),
      },
      {
        name: "FileShares_Delete",
        method: "DELETE",
        path: share,
        action: right("fileServices/shares/delete"),
        query: ["$include"],
        run: (call) => this.#delete(call),
      },
    ];
  }

  #create(call: ArmCall): ArmAnswer {
    const account = this.#find(call);
    const { shareName: name = "" } = call.path;
    refuseSnapshots(call);
    if (!shareName.test(name)) {
      const message = "The specified resource name contains invalid characters.";
      throw new ArmFault(400, "InvalidResourceName", message);
    }
    const { properties = {} } = call.body as ShareBody;
    checkProperties(properties, account);
    const existing = account.shares.get(name);
    if (existing !== undefined) {
      return { status: 200, body: this.#show(this.#change(existing, call.body as ShareBody)) };
    }
    const directory = join(this.#context.directory, "shares", randomUUID());
    mkdirSync(directory, { recursive: true });
    chmodSync(directory, 0o777);
    const share: Share = {
      name,
      account,
      directory,
      properties,
      etag: newEtag(),
      changedAt: this.#context.clock.now(),
    };
    account.shares.set(name, share);
    return { status: 201, body: this.#show(share) };
  }

  #change(share: Share, { properties = {} }: ShareBody): Share {
    checkProperties(properties, share.account);
    share.properties = { ...share.properties, ...properties };
    share.etag = newEtag();
    share.changedAt = this.#context.clock.now();
    return share;
  }

  async #delete(call: ArmCall): Promise<ArmAnswer> {
    const account = this.#find(call);
    const { shareName: name = "" } = call.path;
    refuseSnapshots(call);
    const share = account.shares.get(name);
    if (share === undefined) {
      return { status: 204 };
    }
    account.shares.delete(name);
    await this.#onDeleted(share.directory);
    await rm(share.directory, { recursive: true, force: true, maxRetries: 10 }); // a replica may still write
    return { status: 200 };
  }

  /** Pages of at most 1,000; `$maxpagesize` makes them smaller. */
  #list(call: ArmCall): ArmAnswer {
    const account = this.#find(call);
    for (const parameter of ["$filter", "$expand"]) {
      if (call.query.has(parameter)) {
        throw notSimulated(parameter);
      }
    }
    const size = Math.min(pageSize, Number(call.query.get("$maxpagesize") ?? pageSize));
    const after = call.query.get("$skipToken") ?? "";
    const rest = [...account.shares.values()]
      .filter(({ name }) => name > after)
      .sort((one, other) => (one.name < other.name ? -1 : 1));
    const page = rest.slice(0, size);
    const last = page.at(-1)?.name ?? "";
    const url = `${call.origin}${this.#idOf(account)}/fileServices/default/shares`;
    const more = `api-version=${call.apiVersion}&$maxpagesize=${size}&$skipToken=${last}`;
    return {
      status: 200,
      body: {
        value: page.map((each) => this.#show(each)),
        ...(rest.length > page.length && { nextLink: `${url}?${more}` }),
      },
    };
  }

  #find({ path }: ArmCall): StorageAccount {
    const { accountName = "", resourceGroupName = "" } = path;
    const account = this.account(accountName);
    if (account === undefined) {
      throw resourceNotFound(accountType, accountName, resourceGroupName);
    }
    return account;
  }

  #findShare(call: ArmCall): Share {
    refuseSnapshots(call);
    if (call.query.has("$expand")) {
      throw notSimulated("$expand");
    }
    const share = this.#find(call).shares.get(call.path["shareName"] ?? "");
    if (share === undefined) {
      throw new ArmFault(404, "ShareNotFound", "The specified share does not exist.");
    }
    return share;
  }

  #idOf({ name }: StorageAccount): string {
    return resourceId(this.#context, `${accountType}/${name}`);
  }

  #showAccount(account: StorageAccount): object {
    const { name, kind } = account;
    return {
      id: this.#idOf(account),
      name,
      type: accountType,
      kind,
      location: this.#context.location,
      sku: { name: kind === "FileStorage" ? "Premium_LRS" : "Standard_LRS" },
      properties: {
        provisioningState: "Succeeded",
        allowSharedKeyAccess: true,
        supportsHttpsTrafficOnly: account.isHttpsOnly === true,
        primaryEndpoints: { file: `https://${name}.file.core.windows.net/` },
      },
    };
  }

  #show({ name, account, properties, etag, changedAt }: Share): object {
    return {
      id: `${this.#idOf(account)}/fileServices/default/shares/${name}`,
      name,
      type: `${accountType}/fileServices/shares`,
      etag,
      properties: {
        shareQuota: defaultQuotaGib,
        enabledProtocols: "SMB",
        accessTier: account.kind === "FileStorage" ? "Premium" : "TransactionOptimized",
        ...properties,
        lastModifiedTime: changedAt.toISOString(),
        leaseStatus: "Unlocked",
        leaseState: "Available",
      },
    };
  }
}

function newEtag(): string {
  return `"0x8${randomBytes(7).toString("hex").toUpperCase()}"`;
}

function refuseSnapshots({ headers, query }: ArmCall): void {
  if (headers["x-ms-snapshot"] !== undefined || query.get("$include") === "snapshots") {
    throw notSimulated("a snapshot of a share");
  }
}

function checkProperties(properties: NonNullable<ShareBody["properties"]>, account: StorageAccount): void {
  const { metadata = {}, enabledProtocols, rootSquash } = properties;
  for (const [name, value] of Object.entries(metadata)) {
    if (!metadataName.test(name) || !/^[\x20-\x7e]*$/.test(value)) {
      throw new ArmFault(
        400,
        "InvalidMetadata",
        "The specified metadata is invalid. It has characters that are not permitted.",
      );
    }
  }
  if (enabledProtocols === "NFS" && account.kind !== "FileStorage") {
    const message = "The storage account does not support NFS: it is not of the kind FileStorage.";
    throw new ArmFault(400, "FeatureNotSupportedForAccount", message);
  }
  if (rootSquash !== undefined && enabledProtocols !== "NFS") {
    throw new ArmFault(400, "InvalidRequestPropertyValue", "rootSquash is for NFS shares only.");
  }
  if (properties.signedIdentifiers !== undefined || properties.fileSharePaidBursting !== undefined) {
    throw notSimulated("an access policy or bursting of a share");
  }
}
