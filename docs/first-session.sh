#!/usr/bin/env bash
# The first five minutes: what first-session.svg shows. Recorded where `runion` is
# found, in a directory with nginx.tar, by
#
#     asciinema rec --cols 110 --rows 30 -c 'bash first-session.sh' session.cast
#     termtosvg render session.cast first-session.svg -t window_frame -m 120 -M 3000 -D 4000
#
# and with xml:space="preserve" added to the first tag of what comes out.
say() {
    printf '\e[32m$\e[0m '
    for ((i = 0; i < ${#1}; i++)); do printf '%s' "${1:i:1}"; sleep 0.02; done
    echo
    eval "$1"
    sleep "${2:-1.5}"
}
say 'runion run --rm hello'
say 'runion load -i nginx.tar'
say "runion run -d --name web -p 8080:80 localhost/a-nginx:1 nginx -g 'daemon off;'"
say 'curl -sI http://127.0.0.1:8080/ | head -1'
say 'runion ps --format "table {{.Names}}\t{{.Image}}\t{{.Status}}\t{{.Ports}}"'
say "runion exec web sh -c 'echo changed > /etc/motd; rm -r /var/www'"
say 'runion diff web | head -5'
say 'runion commit web mine'
say 'runion run --rm --network none -m 64m mine sh -c "cat /etc/motd; id; ls /var/www"'
say 'runion logs web; runion stop web; runion rm web'
say 'runion images' 5
