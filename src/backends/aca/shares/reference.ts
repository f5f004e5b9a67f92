/** The share in a volume's record: written as `account/share`, and read. */
import { invalid } from "../../../common/errors.ts";
import type { VolumeRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";

/** The share of a volume. */
export interface ShareReference {
  readonly account: string;
  readonly share: string;
}

/** Writes the `driver_reference` of a volume's record. */
export function formatShare({ account, share }: ShareReference): string {
  return `${account}/${share}`;
}

/** @returns undefined: the volume has none (it is anonymous) and is a directory of each container's own */
export function shareOf({
  driverReference,
}: Pick<VolumeRecord, "driverReference">): ShareReference | undefined {
  const [account = "", share = ""] = driverReference.split("/");
  return account === "" || share === "" ? undefined : { account, share };
}

/**
 * The share of a volume in the configured storage account: one of the same name in another is not its.
 *
 * @param account undefined: none is configured
 * @returns undefined: the volume has no share
 * @throws invalid: the configuration has another account than when the volume was made
 */
export function shareIn(
  account: string | undefined,
  volume: Pick<VolumeRecord, "name" | "driverReference">,
): string | undefined {
  const reference = shareOf(volume);
  if (reference !== undefined && reference.account !== account) {
    throw invalid(
      `volume ${volume.name} is in the storage account ${reference.account}, and aca.storage_account_name is ${account ?? "not set"}: the volume can be used with its own account alone`,
    );
  }
  return reference?.share;
}
