# Bash completion for the four programs. The words come from each program's own --help.

_tunnelcast() {
	local program=$1 word=$2 command= help i
	# After the = of a flag comes a file, if anything.
	[[ $word == = || $3 == = ]] && return
	help=$("$program" --help 2>/dev/null) || return
	local commands=$(sed -n '/^Commands:/,/^$/s/^  \([a-z]\+\) .*/\1/p' <<<"$help")
	for ((i = 1; i < COMP_CWORD; i++)); do
		[[ $'\n'$commands$'\n' == *$'\n'"${COMP_WORDS[i]}"$'\n'* ]] && command=${COMP_WORDS[i]} && break
	done
	if [[ $word == -* ]]; then
		[[ -z $command ]] || help=$("$program" "$command" --help 2>/dev/null) || return
		COMPREPLY=($(compgen -W "$(sed -n '
			s/^ \{2,6\}\(-h, \)\?--\[no-\]\([a-z-]\+\).*/--\2 --no-\2/p
			s/^ \{2,6\}\(-h, \)\?--\([a-z-]\+\)=.*/--\2=/p
			s/^ \{2,6\}\(-h, \)\?--\([a-z-]\+\)\( .*\)\?$/--\2/p' <<<"$help")" -- "$word"))
		[[ ${COMPREPLY-} != *= ]] || compopt -o nospace
	elif [[ -z $command ]]; then
		COMPREPLY=($(compgen -W "$commands" -- "$word"))
	fi
}

complete -o default -F _tunnelcast tunnelcast-updown tunnelcast-recorddone tunnelcast-archiveprune tunnelcast-certhook
