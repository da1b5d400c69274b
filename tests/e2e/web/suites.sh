# Prints what the server at $at takes, a line each: the version and the suite. Every version and suite that this machine's openssl
# has is offered alone. $more: more options for s_client, such as a certificate.
offer() {
    # -brief tells version and suite on standard error, once the handshake is over; s_client fails where it does not end well.
    # shellcheck disable=SC2154,SC2086 # the caller sets both; a list of words
    timeout 10 openssl s_client -connect "$at" $more -brief "$@" </dev/null 2>&1 |
        sed -n -e 's/^Protocol version: //p' -e 's/^Ciphersuite: //p' | paste -s -d ' ' -
}
weak=ALL:COMPLEMENTOFALL:@SECLEVEL=0
for version in tls1 tls1_1; do
    offer -$version -cipher "$weak"
done
for suite in $(openssl ciphers "$weak" | tr ':' '\n' | grep -v ^TLS_); do
    offer -tls1_2 -cipher "$suite:@SECLEVEL=0"
done
for suite in TLS_AES_128_GCM_SHA256 TLS_AES_256_GCM_SHA384 TLS_CHACHA20_POLY1305_SHA256 TLS_AES_128_CCM_SHA256 TLS_AES_128_CCM_8_SHA256; do
    offer -tls1_3 -ciphersuites "$suite" -cipher "$weak"
done
