/** Shares as replicas mount them: by SMB, with what that lacks, or by NFS. */
import type { Machine } from "../../../common/machine/machine.ts";
import type { EnvironmentStorage } from "../app/environments.ts";
import type { Mounted } from "../app/execution-run.ts";
import type { Share, Storage } from "./storage.ts";

/** A mount of an environment's storage. */
export interface StorageMount {
  readonly storage: EnvironmentStorage;
  /** `mountOptions` of the volume, by name. */
  readonly options: ReadonlyMap<string, string>;
}

/**
 * The directory to bind into a container.
 *
 * @throws Error whose message is mount.cifs' or mount.nfs'
 */
export async function mountShare(
  storages: Storage,
  machine: Machine,
  { storage, options }: StorageMount,
): Promise<Mounted> {
  const { azureFile, nfsAzureFile } = storage.properties;
  if (nfsAzureFile !== undefined) {
    const readOnly = nfsAzureFile.accessMode === "ReadOnly";
    const share = findNfsShare(storages, nfsAzureFile.server ?? "", nfsAzureFile.shareName ?? "");
    return { directory: share.directory, files: share.directory, readOnly };
  }
  const { accountName = "", accountKey = "", shareName = "", accessMode } = azureFile ?? {};
  const account = storages.account(accountName);
  if (account === undefined || !account.keys.includes(accountKey)) {
    throw new Error("mount error(13): Permission denied");
  }
  const share = account.shares.get(shareName);
  if (share === undefined || share.properties.enabledProtocols === "NFS") {
    throw new Error("mount error(2): No such file or directory");
  }
  const directory = await machine.fileSystems.share({
    hostDirectory: share.directory,
    uid: Number(options.get("uid") ?? 0),
    gid: Number(options.get("gid") ?? 0),
    fileMode: options.get("file_mode") ?? "0777",
    dirMode: options.get("dir_mode") ?? "0777",
    symlinks: options.has("mfsymlinks"),
    localLocks: options.has("nobrl"),
  });
  return { directory, files: share.directory, readOnly: accessMode === "ReadOnly" };
}

/** @param path `/ACCOUNT/SHARE` */
function findNfsShare(storages: Storage, server: string, path: string): Share {
  const [, accountName = "", shareName = ""] = path.split("/");
  const share = storages.account(accountName)?.shares.get(shareName);
  if (server !== `${accountName}.file.core.windows.net` || share?.properties.enabledProtocols !== "NFS") {
    throw new Error(`mount.nfs: access denied by server while mounting ${server}:${path}`);
  }
  return share;
}
