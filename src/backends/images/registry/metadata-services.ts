/**
 * Addresses where clouds provide a machine's credentials: users of the API must not get the backend's own. The dialer
 * refuses them once names are resolved.
 */
export const metadataServices: readonly string[] = [
  "169.254.0.0/16",
  "fe80::/10",
  "fd00:ec2::/32",
  "fd20:ce::/32", // Google Cloud
  "100.100.100.200/32", // Alibaba Cloud
  "168.63.129.16/32", // Azure: the machine agent, on ports 80 and 32526.
];
