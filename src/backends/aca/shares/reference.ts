/** The share in a volume's record: written as `account/share`, and read. */
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
