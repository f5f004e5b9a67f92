/** Shares of one storage account, and the environment storages through which jobs mount them. */
import type { ManagedEnvironmentStorageProperties } from "@azure/arm-appcontainers";
import type { FileShareItem } from "@azure/arm-storage";

import type { Clock } from "../../../common/clock.ts";
import { invalid, systemError } from "../../../common/errors.ts";
import { KeptAnswers } from "../../concurrency/kept-answers.ts";
import { isRefusal } from "../../cloud/contract/cloud-error.ts";
import type { AzureClients } from "../arm/clients.ts";
import { isAzureError, isStorageInUse } from "../arm/errors.ts";
import { sharePrefix, storageName } from "./names.ts";

/** Settings and dependencies of {@link AzureFiles}. */
export interface AzureFilesOptions {
  readonly azure: Pick<AzureClients, "apps" | "storage" | "call">;
  readonly resourceGroup: string;
  readonly environment: string;
  readonly account: string;
  /** The key with which jobs mount shares, as a managed identity cannot. If undefined, it is queried from Azure. */
  readonly accountKey: string | undefined;
  /**
   * Tests a key at the account and returns the code of a refusal; undefined if it is accepted, or the result is
   * unknown.
   */
  readonly refusalOfKey: (key: string) => Promise<string | undefined>;
  readonly clock: Clock;
}

interface NewStorage {
  readonly name: string;
  readonly share: string;
  readonly readOnly: boolean;
  readonly key: string;
}

/** Time after which a changed key is noticed. */
const keyHoldsMs = 60_000;

/** A created share. */
export interface FoundShare {
  readonly share: string;
  readonly metadata: Readonly<Record<string, string>>;
}

/** The file server of a storage account. */
const serverDomain = "file.core.windows.net";

/** All operations are idempotent. Calls throw AzureError. */
export class AzureFiles {
  readonly #options: AzureFilesOptions;
  /** Storages that this process has created, with their keys: recreated when the key changes. */
  readonly #storages = new Map<string, { readonly key: string; readonly made: Promise<void> }>();
  readonly #key: KeptAnswers<string>;

  constructor(options: AzureFilesOptions) {
    this.#options = options;
    this.#key = new KeptAnswers(options.clock, keyHoldsMs, 1);
  }

  get account(): string {
    return this.#options.account;
  }

  /** Creates a share unless it exists. */
  async createShare(share: string, metadata: Record<string, string>, nfs: boolean): Promise<void> {
    const { azure, resourceGroup, account } = this.#options;
    const body = { metadata, ...(nfs ? { enabledProtocols: "NFS", rootSquash: "NoRootSquash" } : {}) };
    await azure.call("FileShares_Create", (options) =>
      azure.storage.fileShares.create(resourceGroup, account, share, body, options),
    );
  }

  /**
   * Refuses NFS shares in an HTTPS-only account: Azure creates them, but jobs that mount one never start.
   *
   * @throws invalid; AzureError
   */
  async refuseHttpsOnly(): Promise<void> {
    const { azure, resourceGroup, account } = this.#options;
    const { enableHttpsTrafficOnly } = await azure.call("StorageAccounts_GetProperties", (options) =>
      azure.storage.storageAccounts.getProperties(resourceGroup, account, options),
    );
    if (enableHttpsTrafficOnly === true) {
      throw invalid(
        `no job can mount NFS shares of the storage account ${account}, which takes secure transfer alone: set https_traffic_only_enabled = false`,
      );
    }
  }

  /** Deletes a share with its content. */
  async removeShare(share: string): Promise<void> {
    const { azure, resourceGroup, account } = this.#options;
    await azure.call("FileShares_Delete", (options) =>
      azure.storage.fileShares.delete(resourceGroup, account, share, options),
    );
  }

  /** All shares of sockerless in the account, including other instances'. */
  async listShares(): Promise<FoundShare[]> {
    const { azure, resourceGroup, account } = this.#options;
    const listed = await azure.call("FileShares_List", async (options) => {
      const found: FileShareItem[] = [];
      const pages = azure.storage.fileShares.list(resourceGroup, account, options);
      for await (const item of pages) {
        found.push(item);
      }
      return found;
    });
    const wanted = listed.filter(
      ({ name, deleted }) => name?.startsWith(sharePrefix) === true && deleted !== true,
    );
    return await Promise.all(wanted.map(({ name = "", metadata }) => this.#found(name, metadata)));
  }

  /** Listings may lack metadata. */
  async #found(share: string, listed: Record<string, string> | undefined): Promise<FoundShare> {
    if (listed !== undefined) {
      return { share, metadata: listed };
    }
    const { azure, resourceGroup, account } = this.#options;
    const { metadata = {} } = await azure.call("FileShares_Get", (options) =>
      azure.storage.fileShares.get(resourceGroup, account, share, options),
    );
    return { share, metadata };
  }

  /**
   * Creates the environment storage through which jobs mount a share; once per process and account key.
   *
   * @returns its name
   * @throws as {@link key}
   */
  async ensureStorage(share: string, nfs: boolean, readOnly: boolean): Promise<string> {
    const name = storageName(share, readOnly);
    const key = nfs ? "" : await this.key();
    let storage = this.#storages.get(name);
    if (storage?.key !== key) {
      storage = { key, made: this.#createStorage({ name, share, readOnly, key }) };
      this.#storages.set(name, storage);
      storage.made.catch(() => this.#storages.delete(name));
    }
    await storage?.made;
    return name;
  }

  /** @param key empty for an NFS share */
  async #createStorage({ name, share, readOnly, key }: NewStorage): Promise<void> {
    const { azure, resourceGroup, environment, account } = this.#options;
    const accessMode = readOnly ? "ReadOnly" : "ReadWrite";
    const properties =
      key === ""
        ? {
            nfsAzureFile: {
              server: `${account}.${serverDomain}`,
              shareName: `/${account}/${share}`,
              accessMode,
            },
          }
        : { azureFile: { accountName: account, accountKey: key, shareName: share, accessMode } };
    await azure.call("ManagedEnvironmentsStorages_CreateOrUpdate", (options) =>
      azure.apps.managedEnvironmentsStorages.createOrUpdate(
        resourceGroup,
        environment,
        name,
        { properties },
        options,
      ),
    );
  }

  /**
   * The current key for mounting shares. The environment accepts any key, but a job with a wrong one waits until its
   * start is given up.
   *
   * @throws AzureError; system: the configured key is not one of the account's
   */
  key(): Promise<string> {
    return this.#key.of("", () => this.#queryKey());
  }

  async #queryKey(): Promise<string> {
    const { azure, resourceGroup, account, accountKey } = this.#options;
    try {
      const { keys = [] } = await azure.call("StorageAccounts_ListKeys", (options) =>
        azure.storage.storageAccounts.listKeys(resourceGroup, account, options),
      );
      if (accountKey === undefined) {
        const [first] = keys;
        if (first?.value === undefined) {
          throw systemError(`Azure lists no key of the storage account ${account}`);
        }
        return first.value;
      }
      if (!keys.some(({ value }) => value === accountKey)) {
        throw systemError(
          `aca.storage_account_key is none of the keys that the storage account ${account} has: no container can mount its shares; set one of today's, or leave it out`,
        );
      }
      return accountKey;
    } catch (error) {
      if (accountKey === undefined || !isRefusal(error)) {
        throw error;
      }
      // The account tests the configured key, since this backend may not query the keys.
      await this.#refuseWrong(accountKey);
      return accountKey;
    }
  }

  async #refuseWrong(key: string): Promise<void> {
    const { account, refusalOfKey } = this.#options;
    const code = await refusalOfKey(key);
    if (code !== undefined) {
      throw systemError(
        `the storage account ${account} refuses aca.storage_account_key (${code}): no container can mount its shares; set one of its keys of today`,
      );
    }
  }

  /** Removes the storages of a share; Azure keeps one that a job refers to. */
  async removeStorages(share: string): Promise<void> {
    const { azure, resourceGroup, environment } = this.#options;
    for (const readOnly of [true, false]) {
      const name = storageName(share, readOnly);
      this.#storages.delete(name);
      await azure.call("ManagedEnvironmentsStorages_Delete", (options) =>
        azure.apps.managedEnvironmentsStorages.delete(resourceGroup, environment, name, options),
      );
    }
  }

  /** Removes storages whose share is gone, except those that a job still refers to. */
  async removeLeftStorages(): Promise<void> {
    const { azure, resourceGroup, environment, account } = this.#options;
    const { value = [] } = await azure.call("ManagedEnvironmentsStorages_List", (options) =>
      azure.apps.managedEnvironmentsStorages.list(resourceGroup, environment, options),
    );
    for (const { name = "", properties = {} } of value) {
      const share = shareOfStorage(properties, account);
      if (share?.startsWith(sharePrefix) === true && !(await this.#isShare(share))) {
        await azure
          .call("ManagedEnvironmentsStorages_Delete", (options) =>
            azure.apps.managedEnvironmentsStorages.delete(resourceGroup, environment, name, options),
          )
          .catch((error: unknown) => {
            if (!isStorageInUse(error)) {
              throw error;
            }
          });
      }
    }
  }

  async #isShare(share: string): Promise<boolean> {
    const { azure, resourceGroup, account } = this.#options;
    try {
      await azure.call("FileShares_Get", (options) =>
        azure.storage.fileShares.get(resourceGroup, account, share, options),
      );
      return true;
    } catch (error) {
      if (isAzureError(error, "ShareNotFound")) {
        return false;
      }
      throw error;
    }
  }
}

/** The share of this account that a storage mounts. */
function shareOfStorage(
  { azureFile, nfsAzureFile }: ManagedEnvironmentStorageProperties,
  account: string,
): string | undefined {
  const path = nfsAzureFile?.shareName ?? `/${azureFile?.accountName}/${azureFile?.shareName}`;
  return path.startsWith(`/${account}/`) ? path.slice(account.length + 2) : undefined;
}
