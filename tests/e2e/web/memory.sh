# Prints who uses the memory of this node, a line each: PSS and swapped PSS in KiB, processes, unit. PSS (proc(5)) counts a page that
# several processes share in parts, so that the sum is what is really there.
for process in /proc/[0-9]*; do
    # Commands that come from outside are no part of the node, and kernel threads have no memory of their own.
    unit=$(sed -n -E 's#^(0:|1:name=systemd):(.*)$#\2#p' "$process/cgroup" 2>/dev/null | grep -E '\.(service|scope)(/|$)' | head -n 1)
    [ -n "$unit" ] || [ "$process" = /proc/1 ] || continue
    unit=$(printf '%s\n' "$unit" | grep -o -E '[^/]+\.(service|scope)' | head -n 1)
    # A process may have ended meanwhile.
    awk -v unit="${unit:-init.scope}" '/^Pss:/ { pss = $2 } /^SwapPss:/ { swap = $2 } END { if (NR) print pss + 0, swap + 0, unit }' \
        "$process/smaps_rollup" 2>/dev/null || continue
done | awk '{ pss[$3] += $1; swap[$3] += $2; processes[$3] += 1 }
    END { for (unit in pss) print pss[unit], swap[unit], processes[unit], unit }' | sort -n -r
