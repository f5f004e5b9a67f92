/** The options that `docker volume create -o` takes. */
import { invalid } from "../../../common/errors.ts";

/** Options of a volume. */
export interface VolumeOptions {
  /**
   * The user as whom the volume's files are accessed: `root` whatever the user in the container is, or `none`, that
   * user. Images that check who owns their data (postgres) need `none`.
   */
  readonly posixUser: "root" | "none";
}

const posixUserOption = "posix_user";

/**
 * Reads a volume's driver options.
 *
 * @throws invalid: a value, or an option of another driver, by name
 */
export function parseVolumeOptions(options: Readonly<Record<string, string>>): VolumeOptions {
  const unknown = Object.keys(options).filter((name) => name !== posixUserOption);
  if (unknown.length > 0) {
    throw invalid(`invalid option: ${unknown.map((name) => JSON.stringify(name)).join(", ")}`);
  }
  const posixUser = options[posixUserOption] ?? "root";
  if (posixUser !== "root" && posixUser !== "none") {
    throw invalid(
      `volume option ${posixUserOption} must be "root" or "none", not ${JSON.stringify(posixUser)}`,
    );
  }
  return { posixUser };
}
