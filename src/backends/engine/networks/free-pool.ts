/** Making a network of the driver's in an address pool that nobody else takes meanwhile. */
import { isErrorKind } from "../../../common/errors.ts";
import type { IpamPool } from "../../../gen/sockerless/backend/v1/network_pb.ts";
import type { NetworkRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { NetworkFabric } from "../../driver/networks.ts";

/** A network that was made. */
export interface MadeNetwork {
  /** With the pool that it has. */
  readonly record: NetworkRecord;
  /** The driver's. */
  readonly reference: string;
}

/**
 * Has the driver make a network. Where its pool, which nobody asked for, turns out to be taken, by another instance on
 * the same machine say, it gets another.
 *
 * @param choose another pool, and journals it, if need be
 * @throws what the driver and `choose` throw
 */
export async function makeInFreePool(
  networks: Pick<NetworkFabric, "ensure">,
  planned: NetworkRecord,
  choose: (planned: NetworkRecord, refused: readonly string[]) => Promise<NetworkRecord>,
): Promise<MadeNetwork> {
  const refused: string[] = [];
  let record = planned;
  for (;;) {
    try {
      return { record, reference: await networks.ensure(record) };
    } catch (error) {
      const pool = record.network?.pools[0];
      if (!isErrorKind(error, "conflict") || pool === undefined || pool.configured) {
        throw error;
      }
      refused.push(pool.subnet);
    }
    record = await choose(record, refused);
  }
}

/** A network with another pool. */
export function withPool(record: NetworkRecord, pool: IpamPool): NetworkRecord {
  return record.network === undefined ? record : { ...record, network: { ...record.network, pools: [pool] } };
}
