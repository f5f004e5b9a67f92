/** The options that `docker volume create -o` takes, and those that a share is mounted with. Pure. */
import { invalid } from "../../../common/errors.ts";

/** Options of a volume. */
export interface VolumeOptions {
  /** Mounted by NFS, which needs a premium storage account and an environment in a network of one's own. */
  readonly nfs: boolean;
  /** All options of its mounts, comma-separated; undefined: the defaults. */
  readonly mountOptions: string | undefined;
}

const known = ["mount_options", "nfs"];
/** `name` or `name=value`, comma-separated. */
const mountOptionList = /^[a-z_]+(=[\w.:/-]+)?(,[a-z_]+(=[\w.:/-]+)?)*$/;

/**
 * Reads a volume's driver options.
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

/** `uid`, `uid:gid`, or `root`, as `--user` and images have it. */
const numericUser = /^(?<uid>\d+|root)?(:(?<gid>\d+|root))?$/;

/**
 * The options with which a container mounts a volume. A share by SMB keeps no owners and no modes: all that is in it is
 * the container's user's, for whoever the container runs as. Everybody in it may write, since nobody in it can change that:
 * images that begin as root and go on as another user would find the volume closed.
 *
 * @param user as the container's configuration has it; whose number only the image knows counts as root
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
