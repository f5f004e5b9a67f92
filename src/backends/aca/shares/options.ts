/** The options of `docker volume create -o`, and the mount options of a share. Pure. */
import { invalid } from "../../../common/errors.ts";

/** Options of a volume. */
export interface VolumeOptions {
  /** Whether to mount by NFS, which needs a premium storage account and an environment in a custom network. */
  readonly nfs: boolean;
  /** Mount options, comma-separated, which replace the defaults; undefined for the defaults. */
  readonly mountOptions: string | undefined;
}

const known = ["mount_options", "nfs"];
/** `name` or `name=value`, comma-separated. */
const mountOptionList = /^[a-z_]+(=[\w.:/-]+)?(,[a-z_]+(=[\w.:/-]+)?)*$/;

/**
 * Parses a volume's driver options.
 *
 * @throws invalid: a value, or an option of another driver, by name
 */
export function parseVolumeOptions(options: Readonly<Record<string, string>>): VolumeOptions {
  const unknown = Object.keys(options).filter((name) => !known.includes(name));
  if (unknown.length > 0) {
    throw invalid(`invalid option: ${unknown.map((name) => JSON.stringify(name)).join(", ")}`);
  }
  const { nfs = "false", mount_options: mountOptions } = options;
  if (nfs !== "true" && nfs !== "false") {
    throw invalid(`volume option nfs must be "true" or "false", not ${JSON.stringify(nfs)}`);
  }
  if (mountOptions !== undefined && !mountOptionList.test(mountOptions)) {
    throw invalid(
      `volume option mount_options must be options of a mount, as in uid=1000,gid=1000,nobrl, not ${JSON.stringify(mountOptions)}`,
    );
  }
  return { nfs: nfs === "true", mountOptions };
}

/** `uid`, `uid:gid`, or `root`, as in `--user` and images. */
const numericUser = /^(?<uid>\d+|root)?(:(?<gid>\d+|root))?$/;

/**
 * The options with which a container mounts a volume. A share by SMB stores no owners or modes: all files belong to the
 * container's user. Everybody in the container may write, since the mode cannot be changed there: images that begin as
 * root and continue as another user would otherwise have no access.
 *
 * @param user from the container's configuration; a name that only the image can resolve counts as root
 */
export function mountOptionsOf({ nfs, mountOptions }: VolumeOptions, user: string): string | undefined {
  if (mountOptions !== undefined || nfs) {
    return mountOptions;
  }
  const { uid, gid } = numericUser.exec(user)?.groups ?? {};
  const shown = [`uid=${numberOf(uid)}`, `gid=${numberOf(gid)}`];
  return [...shown, "dir_mode=0777", "file_mode=0777", "mfsymlinks", "nobrl"].join(",");
}

function numberOf(id: string | undefined): number {
  return id === undefined || id === "root" ? 0 : Number(id);
}
