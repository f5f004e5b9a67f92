/** The options of `docker volume create -o`. */
import { invalid } from "../../../common/errors.ts";

/** Options of a volume. */
export interface VolumeOptions {
  /**
   * The user for access to the volume's files: `root` for every user of the container, or `none` for the container's
   * actual user. Images that check the owner of their data (postgres) need `none`.
   */
  readonly posixUser: "root" | "none";
}

const posixUserOption = "posix_user";

/**
 * Parses a volume's driver options.
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
