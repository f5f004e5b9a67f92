/** The share in a volume's record, with its format and parser: `account/share`. */
import { invalid } from "../../../common/errors.ts";
import type { VolumeRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";

/** The share of a volume. */
export interface ShareReference {
  readonly account: string;
  readonly share: string;
}

/** Formats the `driver_reference` of a volume's record. */
export function formatShare({ account, share }: ShareReference): string {
  return `${account}/${share}`;
}

/** @returns undefined if the volume has none (it is anonymous) and is a directory of each container */
export function shareOf({
  driverReference,
}: Pick<VolumeRecord, "driverReference">): ShareReference | undefined {
  const [account = "", share = ""] = driverReference.split("/");
  return account === "" || share === "" ? undefined : { account, share };
}

/**
 * The share of a volume in the configured storage account; a share with the same name in another account is not the
 * volume's.
 *
 * @param account undefined if none is configured
 * @returns undefined if the volume has no share
 * @throws invalid: another account was configured when the volume was created
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
