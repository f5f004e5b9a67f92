import { BlockList } from "node:net";

/**
 * Addresses where clouds provide a machine's credentials: users of the API must not get the backend's own. They only
 * speak HTTP without TLS, so TLS connections, which a proxy of the environment may make, need no check.
 */
export const metadataServices = new BlockList();
metadataServices.addSubnet("169.254.0.0", 16, "ipv4");
metadataServices.addSubnet("fe80::", 10, "ipv6");
metadataServices.addSubnet("fd00:ec2::", 32, "ipv6");
metadataServices.addSubnet("fd20:ce::", 32, "ipv6"); // Google Cloud
metadataServices.addAddress("100.100.100.200", "ipv4"); // Alibaba Cloud
metadataServices.addAddress("168.63.129.16", "ipv4"); // Azure: the machine agent, on ports 80 and 32526.
